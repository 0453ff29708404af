//! What can go wrong with what is remembered, and whether trying again may help.

use dure_types::Digest;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no {what}")]
    NotFound { what: String },
    #[error("{what} exists already")]
    Exists { what: String },
    #[error("in use by {by}")]
    InUse { by: String },
    /// It does not fit what is there.
    #[error("{0}")]
    Conflict(String),
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// A manifest names content that its project never uploaded.
    #[error("{} of the files' contents were never uploaded", .0.len())]
    BlobsMissing(Vec<Digest>),
    #[error("the content is {found}, not {expected}")]
    BlobMismatch { expected: Digest, found: Digest },
    /// A part begins elsewhere than the one before it ended.
    #[error("the next part begins at byte {expected}")]
    BlobOffset { expected: u64 },
    /// The sender went away; what came is kept.
    #[error("the upload was interrupted: {0}")]
    Interrupted(String),
    /// Somebody else holds what is needed right now. Nothing was written.
    #[error("the store is busy")]
    Busy,
    /// The database or disk cannot be used now. Nothing was written.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
    /// The connection broke in the middle of a commit: it may or may not have been written.
    #[error("whether it was written is not known: {0}")]
    Uncertain(String),
    #[error("the store was written by a newer version of Dure (its schema is {found}, this one knows {known})")]
    Newer { found: i64, known: i64 },
    #[error("the store holds something that cannot be read: {0}")]
    Corrupt(String),
    #[error("the store was closed")]
    Closed,
    #[error("database: {0}")]
    Database(sqlx::Error),
    #[error("{what}: {error}")]
    Io { what: String, error: std::io::Error },
}

impl StoreError {
    /// Nothing was written, and the same request may succeed a moment later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable(_) | Self::Interrupted(_))
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }

    /// The same again for another writer of the same batch.
    pub(crate) fn of_batch(&self) -> Self {
        match self {
            Self::Busy => Self::Busy,
            Self::Uncertain(why) => Self::Uncertain(why.clone()),
            Self::Closed => Self::Closed,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unavailable(error.to_string())
            }
            sqlx::Error::Database(database) => match Fault::of(database.code().as_deref().unwrap_or("")) {
                Fault::Busy => Self::Busy,
                Fault::Unavailable => Self::Unavailable(error.to_string()),
                Fault::Corrupt => Self::Corrupt(error.to_string()),
                Fault::Other => Self::Database(error),
            },
            sqlx::Error::ColumnDecode { .. } => Self::Corrupt(error.to_string()),
            _ => Self::Database(error),
        }
    }
}

enum Fault {
    Busy,
    Unavailable,
    Corrupt,
    Other,
}

impl Fault {
    /// SQLite's codes are numbers (the low byte is the kind), PostgreSQL's have five characters.
    fn of(code: &str) -> Self {
        match code {
            "40001" | "40P01" | "55P03" => Self::Busy,
            "57P01" | "57P02" | "57P03" | "53100" | "53200" | "53300" => Self::Unavailable,
            code if code.len() == 5 => {
                if code.starts_with("08") {
                    Self::Unavailable
                } else if code.starts_with("XX") {
                    Self::Corrupt
                } else {
                    Self::Other
                }
            }
            code => match code.parse::<u32>().map(|code| code & 0xff) {
                Ok(5 | 6) => Self::Busy,
                Ok(8 | 10 | 13 | 14) => Self::Unavailable,
                Ok(11 | 26) => Self::Corrupt,
                _ => Self::Other,
            },
        }
    }
}
