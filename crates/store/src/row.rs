//! Reads columns and binds values: what cannot be read names its column instead of panicking.

use std::{fmt::Display, str::FromStr};

use dure_types::{
    Timestamp,
    run::{Reason, ReasonCode},
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    Any, AnyConnection, Row,
    any::{AnyArguments, AnyRow},
    query::Query,
};

use crate::{StoreError, dialect::Dialect};

pub(crate) trait Columns {
    fn text(&self, column: &str) -> Result<String, StoreError>;
    fn maybe_text(&self, column: &str) -> Result<Option<String>, StoreError>;
    fn int(&self, column: &str) -> Result<i64, StoreError>;
    fn maybe_int(&self, column: &str) -> Result<Option<i64>, StoreError>;
    fn maybe_float(&self, column: &str) -> Result<Option<f64>, StoreError>;

    fn parsed<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, StoreError> {
        parse(column, &self.text(column)?)
    }

    fn maybe_parsed<T: FromStr<Err: Display>>(&self, column: &str) -> Result<Option<T>, StoreError> {
        self.maybe_text(column)?.map(|text| parse(column, &text)).transpose()
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|error| corrupt(column, error))
    }

    /// One of an enumeration's words.
    fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        read_word(column, self.text(column)?)
    }

    fn number<T: TryFrom<i64, Error: Display>>(&self, column: &str) -> Result<T, StoreError> {
        T::try_from(self.int(column)?).map_err(|error| corrupt(column, error))
    }

    fn maybe_number<T: TryFrom<i64, Error: Display>>(&self, column: &str) -> Result<Option<T>, StoreError> {
        self.maybe_int(column)?.map(|number| T::try_from(number).map_err(|error| corrupt(column, error))).transpose()
    }

    fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        self.int(column).map(Timestamp::from_micros)
    }

    fn maybe_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.maybe_int(column)?.map(Timestamp::from_micros))
    }

    fn reason(&self) -> Result<Option<Reason>, StoreError> {
        let Some(code) = self.maybe_text("reason_code")? else { return Ok(None) };
        let code: ReasonCode = read_word("reason_code", code)?;
        Ok(Some(Reason::new(code, self.maybe_text("reason_message")?.unwrap_or_default())))
    }
}

impl Columns for AnyRow {
    fn text(&self, column: &str) -> Result<String, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn maybe_text(&self, column: &str) -> Result<Option<String>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn int(&self, column: &str) -> Result<i64, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn maybe_int(&self, column: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn maybe_float(&self, column: &str) -> Result<Option<f64>, StoreError> {
        Ok(self.try_get(column)?)
    }
}

fn parse<T: FromStr<Err: Display>>(column: &str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error| corrupt(column, error))
}

fn read_word<T: DeserializeOwned>(column: &str, text: String) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(text)).map_err(|error| corrupt(column, error))
}

fn corrupt(column: &str, error: impl Display) -> StoreError {
    StoreError::Corrupt(format!("column {column}: {error}"))
}

/// Sizes are below 2^53 wherever they come in; one that is not is kept as the largest there is.
pub(crate) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// PostgreSQL keeps no NUL in a text; what programs and people write may hold one.
pub(crate) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Invalid(error.to_string()))
}

/// A statement whose text is put together from constants of this crate; values go in by `bind` only.
pub(crate) fn sql(text: String) -> Query<'static, Any, AnyArguments> {
    sqlx::query(sqlx::AssertSqlSafe(text))
}

/// A connection together with how its database wants to be spoken to.
pub(crate) struct Link<'c> {
    pub connection: &'c mut AnyConnection,
    pub dialect: Dialect,
}

/// Conditions that are there only when they are asked for.
#[derive(Default)]
pub(crate) struct Conditions {
    text: String,
    values: Vec<Value>,
}

pub(crate) enum Value {
    Text(String),
    Int(i64),
}

impl Conditions {
    /// `?` in the condition stands for the values, in order.
    pub fn add(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        let mut values = values.into_iter();
        for part in condition.split_inclusive('?') {
            match (part.strip_suffix('?'), values.next()) {
                (Some(part), Some(value)) => {
                    self.values.push(value);
                    self.text.push_str(&format!("{part}${}", self.values.len()));
                }
                _ => self.text.push_str(part),
            }
        }
    }

    pub fn query(self, select: &str, rest: &str) -> Query<'static, Any, AnyArguments> {
        let mut query = sql(format!("{select}{}{rest}", self.text));
        for value in self.values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Int(number) => query.bind(number),
            };
        }
        query
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}
