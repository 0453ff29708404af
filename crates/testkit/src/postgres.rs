//! A PostgreSQL database for one test, where DURE_TEST_POSTGRES names a server.

use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::Url;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::block_on;

/// Whether there is a server; says so where there is none.
pub fn is_given() -> bool {
    let given = server().is_some();
    if !given {
        eprintln!("skipped: DURE_TEST_POSTGRES names no PostgreSQL server");
    }
    given
}

fn server() -> Option<Url> {
    std::env::var("DURE_TEST_POSTGRES").ok().and_then(|url| url.parse().ok())
}

/// Dropped with everything in it.
pub struct Database {
    name: String,
    server: Url,
}

impl Database {
    pub fn create() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = server().expect("DURE_TEST_POSTGRES is a URL");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("dure_test_{}_{number}", std::process::id());
        let database = Self { name, server };
        database.execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", database.name)).expect("the server");
        database.execute(&format!("CREATE DATABASE {}", database.name)).expect("a database");
        database
    }

    pub fn url(&self) -> String {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url.to_string()
    }

    fn execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        block_on(async {
            let mut connection = PgConnection::connect(self.server.as_str()).await?;
            connection.execute(AssertSqlSafe(sql)).await?;
            connection.close().await
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}
