use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{EnvironmentUse, Resources};
use crate::{
    name::{Name, Reference},
    time::Span,
};

/// A program that runs to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    pub name: Name,
    /// The packages it imports; without one it has what the machine has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentUse>,
    /// A folder, relative to the spec's own; its .gitignore is honoured. It becomes the working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Read-only, at $DURE_DATA/NAME.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<Name, Reference>,
    /// $DURE_PARAMS is a JSON file of these; ${parameters.NAME} stands for one in `command`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// A line for the shell.
    pub command: String,
    /// Environment variables; names that begin with DURE_ are Dure's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What it gets.
    #[serde(default)]
    pub resources: Resources,
    /// What to keep of $DURE_OUTPUT when it succeeds.
    #[serde(default, skip_serializing_if = "Outputs::is_empty")]
    pub outputs: Outputs,
    /// How long one attempt may take; without one, as long as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How often an attempt is followed by another.
    #[serde(default)]
    pub retries: Retries,
}

/// How often an attempt is followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retries {
    /// After the machine was lost.
    #[serde(default = "thrice")]
    pub lost: u32,
    /// After the program itself failed.
    #[serde(default)]
    pub failed: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Self { lost: thrice(), failed: 0 }
    }
}

fn thrice() -> u32 {
    3
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    Model,
    Dataset,
    Files,
}

impl OutputKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
            Self::Files => "files",
        }
    }
}

/// One thing to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The model or dataset that gets a new version; for files, what they are called.
    pub name: Name,
    /// A file or folder below $DURE_OUTPUT; all of it unless said.
    #[serde(default = "everything", skip_serializing_if = "is_everything")]
    pub path: String,
}

fn everything() -> String {
    ".".to_owned()
}

fn is_everything(path: &str) -> bool {
    path == "."
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outputs {
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub model: OneOrMany,
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub dataset: OneOrMany,
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub files: OneOrMany,
}

impl Outputs {
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub fn iter(&self) -> impl Iterator<Item = (OutputKind, &Output)> {
        [(OutputKind::Model, &self.model), (OutputKind::Dataset, &self.dataset), (OutputKind::Files, &self.files)]
            .into_iter()
            .flat_map(|(kind, outputs)| outputs.0.iter().map(move |output| (kind, output)))
    }
}

/// One or a list of outputs; kept as a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OneOrMany(pub Vec<Output>);

impl OneOrMany {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for OneOrMany {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an output such as {name: digits, path: model.onnx}, or a list of them")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<OneOrMany, A::Error> {
                Output::deserialize(de::value::MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany, A::Error> {
                let mut outputs = Vec::new();
                while let Some(output) = seq.next_element()? {
                    outputs.push(output);
                }
                Ok(OneOrMany(outputs))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for OneOrMany {
    fn schema_name() -> Cow<'static, str> {
        "OneOrManyOutputs".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Output>();
        json_schema!({"anyOf": [one, {"type": "array", "items": one}]})
    }
}
