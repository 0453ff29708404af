//! Models: named, versioned, with a signature read from the file itself and the lineage of each version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    blob::{Digest, Manifest},
    id::RunId,
    name::Name,
    time::Timestamp,
};

/// Element types, by the names of the Open Inference Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

impl Datatype {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TensorSpec {
    pub name: String,
    pub datatype: Datatype,
    /// -1 where any size goes.
    pub shape: Vec<i64>,
    /// Set where the model answers a sequence of maps (scikit-learn's classifiers do): the type of
    /// their keys, the classes. It is answered as a tensor [n, classes] with the labels beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_keys: Option<Datatype>,
}

impl TensorSpec {
    /// `float_input FP32 [n,64]`
    pub fn describe(&self) -> String {
        let size = |size: &i64| if *size < 0 { "n".to_owned() } else { size.to_string() };
        let mut sizes: Vec<_> = self.shape.iter().map(size).collect();
        if self.map_keys.is_some()
            && let Some(last) = sizes.last_mut().filter(|last| *last == "n")
        {
            *last = "classes".to_owned();
        }
        format!("{} {} [{}]", self.name, self.datatype.as_str(), sizes.join(","))
    }
}

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
}

/// Where a version came from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Lineage {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Digest>,
    /// The environment's identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Digest>,
    /// `name@version` of each dataset that was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Model {
    pub name: Name,
    pub project: Name,
    pub latest: u32,
    /// Alias to version; `latest` is not among them, it follows by itself.
    pub aliases: BTreeMap<String, u32>,
    pub created_by: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ModelVersion {
    pub name: Name,
    pub version: u32,
    pub format: String,
    pub signature: Signature,
    pub manifest: Digest,
    pub size: u64,
    pub lineage: Lineage,
    /// The last value of each metric of the run that made it.
    pub metrics: BTreeMap<String, f64>,
    pub aliases: Vec<String>,
    pub created_by: String,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Manifest>,
}

/// Registers a file that was uploaded as a new version.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterModel {
    /// A manifest of one file, the `.onnx`.
    pub manifest: Digest,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAlias {
    pub version: u32,
}
