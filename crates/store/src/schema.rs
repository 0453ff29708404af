//! The versions of the schema, in order. A version that was released never changes; a new one is added below it.

use sqlx::AnyConnection;

use crate::{
    StoreError,
    dialect::Dialect,
    row::{Columns, sql},
};

const VERSIONS: &[&str] = &[include_str!("../migrations/0001_initial.sql")];

pub(crate) async fn migrate(connection: &mut AnyConnection, dialect: Dialect) -> Result<(), StoreError> {
    sqlx::raw_sql(dialect.begin()).execute(&mut *connection).await?;
    match bring_up(connection).await {
        Ok(()) => {
            sqlx::raw_sql("COMMIT").execute(connection).await?;
            Ok(())
        }
        Err(error) => {
            // The first error is the one to tell; closing the connection rolls back too.
            let _ = sqlx::raw_sql("ROLLBACK").execute(connection).await;
            Err(error)
        }
    }
}

async fn bring_up(connection: &mut AnyConnection) -> Result<(), StoreError> {
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY)")
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM schema_version")
        .fetch_one(&mut *connection)
        .await?;
    let (found, known) = (row.int("version")?, VERSIONS.len() as i64);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (version, text) in (1_i64..).zip(VERSIONS).skip(usize::try_from(found).unwrap_or(0)) {
        sqlx::raw_sql(*text).execute(&mut *connection).await?;
        sql("INSERT INTO schema_version (version) VALUES ($1)".to_owned())
            .bind(version)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
