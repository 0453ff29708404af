use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::name::Name;

/// A Python environment with a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentSpec {
    pub name: Name,
    /// Requirements as pip writes them: `scikit-learn==1.9.*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// A requirements file, instead of `packages`; used as it is when every line is pinned with its hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<String>,
    /// A pyproject.toml or its folder, instead of `packages`; a uv.lock beside it is used as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pyproject: Option<String>,
    /// Which Python: `"3.12"` or `">=3.10"`, in quotes; the newest on the machine unless said.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "quoted")]
    pub python: Option<String>,
}

/// The same fields without a name, inside a job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InlineEnvironment {
    /// Requirements as pip writes them: `scikit-learn==1.9.*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// A requirements file, instead of `packages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<String>,
    /// A pyproject.toml or its folder, instead of `packages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pyproject: Option<String>,
    /// Which Python, in quotes; the newest on the machine unless said.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "quoted")]
    pub python: Option<String>,
}

/// A job's environment: a name, or the fields themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum EnvironmentUse {
    Named(Name),
    Inline(InlineEnvironment),
}

/// `python: 3.10` is the number 3.1 in YAML, so a bare number is refused rather than guessed at.
fn quoted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Visitor;

    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a Python version in quotes, such as \"3.12\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
            Err(E::custom(format!("quote it: without quotes this is the number {number}, and 3.10 would be 3.1")))
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
            Err(E::custom(format!("quote it: without quotes this is the number {number}")))
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_any(self)
        }
    }

    deserializer.deserialize_any(Visitor)
}

impl Serialize for EnvironmentUse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(name) => name.serialize(serializer),
            Self::Inline(fields) => fields.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for EnvironmentUse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = EnvironmentUse;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an environment's name, or its fields (packages, requirements, pyproject, python)")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Name::new(text).map(EnvironmentUse::Named).map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                InlineEnvironment::deserialize(de::value::MapAccessDeserializer::new(map)).map(EnvironmentUse::Inline)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for EnvironmentUse {
    fn schema_name() -> Cow<'static, str> {
        "EnvironmentUse".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<Name>();
        let inline = generator.subschema_for::<InlineEnvironment>();
        json_schema!({"anyOf": [name, inline]})
    }
}
