//! Names and references as people write them: `digits`, `digits@3`, `digits@production`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a name: {why}")]
pub struct NameError {
    given: String,
    why: &'static str,
}

/// A lower-case name: `a-z`, `0-9`, `-`, begins with a letter or digit, up to 63 characters, so that
/// it can be a DNS label, a container's name and a part of a URL on every engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    pub const PATTERN: &'static str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";

    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        match fault(&text) {
            None => Ok(Self(text)),
            Some(why) => Err(NameError { given: text.chars().take(80).collect(), why }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("it is empty")
    } else if text.len() > 63 {
        Some("it is longer than 63 characters")
    } else if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        Some("use lower-case letters a-z, digits and `-` (a title may be in any language)")
    } else if text.starts_with('-') || text.ends_with('-') {
        Some("it begins or ends with `-`")
    } else {
        None
    }
}

/// What part of a thing's history is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    Version(u32),
    Alias(Name),
}

impl Selector {
    pub const LATEST: &'static str = "latest";

    pub fn latest() -> Self {
        Self::Alias(Name(Self::LATEST.to_owned()))
    }

    pub fn is_latest(&self) -> bool {
        matches!(self, Self::Alias(name) if name.as_str() == Self::LATEST)
    }
}

impl FromStr for Selector {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse() {
                Ok(0) | Err(_) => Err(NameError { given: text.to_owned(), why: "versions count from 1" }),
                Ok(version) => Ok(Self::Version(version)),
            };
        }
        Name::new(text).map(Self::Alias)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "{version}"),
            Self::Alias(alias) => write!(f, "{alias}"),
        }
    }
}

/// `name`, `name@version` or `name@alias`; without a selector the latest is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    pub name: Name,
    pub selector: Selector,
}

impl Reference {
    pub fn version(name: Name, version: u32) -> Self {
        Self { name, selector: Selector::Version(version) }
    }
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, selector) = match text.split_once('@') {
            Some((name, selector)) => (name, selector.parse()?),
            None => (text, Selector::latest()),
        };
        Ok(Self { name: Name::new(name)?, selector })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.selector)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl TryFrom<String> for Reference {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": Name::PATTERN, "maxLength": 63})
    }
}

impl JsonSchema for Reference {
    fn schema_name() -> Cow<'static, str> {
        "Reference".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "name, name@version or name@alias",
            "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(@[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_without_a_selector_means_the_latest() {
        let reference: Reference = "digits".parse().unwrap();
        assert_eq!(reference.to_string(), "digits@latest");
        assert_eq!("digits@3".parse::<Reference>().unwrap().selector, Selector::Version(3));
        assert_eq!("digits@production".parse::<Reference>().unwrap().to_string(), "digits@production");
    }

    #[test]
    fn names_that_could_not_be_a_label_or_a_path_are_refused() {
        for bad in ["", "Digits", "a_b", "-a", "a-", "../x", "a/b", "숫자", &"a".repeat(64), "a@0", "a@", "a@b@c"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
