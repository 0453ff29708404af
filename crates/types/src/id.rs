//! Ids of things that have no name: runs. Random, so that they can be made anywhere; a unique
//! beginning of at least four characters is enough wherever a person writes one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// 80 random bits in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a run id (20 hexadecimal digits)")]
pub struct IdError(String);

impl RunId {
    pub const LENGTH: usize = 20;
    pub const SHORTEST_PREFIX: usize = 4;

    /// A new id. Fails only where the machine has no source of randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; Self::LENGTH / 2];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex::encode(bytes)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is shown in tables: enough to be unique among a hundred thousand runs most of the time.
    pub fn short(&self) -> &str {
        &self.0[..6]
    }
}

/// Whether a text can be the beginning of a run id.
pub fn is_run_prefix(text: &str) -> bool {
    (RunId::SHORTEST_PREFIX..=RunId::LENGTH).contains(&text.len()) && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() == Self::LENGTH && is_hex(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError(text.chars().take(40).collect()))
        }
    }
}

impl TryFrom<String> for RunId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
