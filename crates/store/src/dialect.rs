//! The few places where SQLite and PostgreSQL want another text.

/// What a column of a set of rows is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Int,
    Float,
}

pub(crate) use Kind::{Float, Int, Text};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// A table `j` from a JSON array of objects given as `$1`, so that one statement writes many rows.
    pub fn rows(self, columns: &[(&str, Kind)]) -> String {
        let list = |each: &dyn Fn(&str, Kind) -> String| {
            columns.iter().map(|(name, kind)| each(name, *kind)).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Sqlite => {
                let columns = list(&|name, _| format!("json_extract(value, '$.{name}') AS {name}"));
                format!("(SELECT {columns} FROM json_each($1)) AS j")
            }
            Self::Postgres => {
                let columns = list(&|name, kind| {
                    let kind = match kind {
                        Text => "TEXT",
                        Int => "BIGINT",
                        Float => "DOUBLE PRECISION",
                    };
                    format!("{name} {kind}")
                });
                format!("json_to_recordset(CAST($1 AS json)) AS j({columns})")
            }
        }
    }

    /// Takes the right to write for the whole transaction: there is one writer at a time, whoever it is, so that
    /// sequences have no gaps and what a change has read is still so when it writes.
    pub fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN; SELECT pg_advisory_xact_lock(7311093)",
        }
    }

    /// Committed means on the disk: FULL waits for it, as PostgreSQL does by itself.
    pub fn prepare_writer(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000; \
                 PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32000"
            }
            Self::Postgres => "SET client_min_messages = warning",
        }
    }

    pub fn prepare_reader(self) -> &'static str {
        match self {
            Self::Sqlite => "PRAGMA busy_timeout = 10000; PRAGMA query_only = 1",
            Self::Postgres => "SET default_transaction_read_only = on; SET client_min_messages = warning",
        }
    }
}
