//! Reads a model's signature out of the ONNX file itself, without ONNX Runtime.
//!
//! The bytes come from users. The two outer levels (`ModelProto`, `GraphProto`) are therefore walked field
//! by field, so that nodes and weights are stepped over without being stored, and only the small messages
//! that describe inputs and outputs are decoded, each of bounded size and number. The graph is not checked:
//! ONNX Runtime does that when it loads the model.

use std::collections::HashSet;

use dure_types::model::{Datatype, Signature, TensorSpec};
use prost::{
    Message, Oneof,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use crate::{ModelError, identify};

/// A model with more inputs or outputs than this is not one that anybody calls by hand.
const MAX_VALUES: usize = 4096;
const MAX_INITIALIZERS: usize = 1 << 20;
/// Of one description of an input or output.
const MAX_DESCRIPTION: usize = 64 << 10;
const MAX_RANK: usize = 16;
const MAX_NAME: usize = 1024;

/// What an ONNX file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxModel {
    pub ir_version: i64,
    /// `skl2onnx`, `pytorch` ...
    pub producer: String,
    pub producer_version: String,
    /// Operator set by domain; the empty domain is ONNX's own.
    pub opsets: Vec<(String, i64)>,
    pub signature: Signature,
}

/// What the model takes and gives.
pub fn signature(bytes: &[u8]) -> Result<Signature, ModelError> {
    read(bytes).map(|model| model.signature)
}

/// Everything that is known from the file.
pub fn read(bytes: &[u8]) -> Result<OnnxModel, ModelError> {
    if let Some(error) = identify::by_magic(bytes) {
        return Err(error);
    }
    // Every exporter writes `ir_version` first; what begins so and still fails is a damaged model.
    read_model(bytes).map_err(|error| match error {
        Fault::Damaged(_) if bytes.first() != Some(&0x08) => identify::otherwise(bytes),
        Fault::Damaged(reason) => ModelError::Damaged(reason),
        Fault::Unsupported(reason) => ModelError::Unsupported(reason),
    })
}

enum Fault {
    Damaged(String),
    Unsupported(String),
}

impl From<prost::DecodeError> for Fault {
    fn from(error: prost::DecodeError) -> Self {
        Self::Damaged(error.to_string())
    }
}

fn damaged<T>(reason: &str) -> Result<T, Fault> {
    Err(Fault::Damaged(reason.to_owned()))
}

fn unsupported<T>(reason: String) -> Result<T, Fault> {
    Err(Fault::Unsupported(reason))
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(oneof = "Kind", tags = "1, 4, 5, 8, 9")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Tensor(TensorType),
    #[prost(message, tag = "4")]
    Sequence(Box<SequenceType>),
    #[prost(message, tag = "5")]
    Map(Box<MapType>),
    #[prost(message, tag = "8")]
    SparseTensor(TensorType),
    #[prost(message, tag = "9")]
    Optional(Box<SequenceType>),
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct SequenceType {
    #[prost(message, optional, boxed, tag = "1")]
    element: Option<Box<Type>>,
}

#[derive(Clone, PartialEq, Message)]
struct MapType {
    #[prost(int32, tag = "1")]
    key: i32,
    #[prost(message, optional, boxed, tag = "2")]
    value: Option<Box<Type>>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dimensions: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
}

/// A weight, without its numbers.
#[derive(Clone, PartialEq, Message)]
struct WeightHead {
    #[prost(string, tag = "8")]
    name: String,
    #[prost(int32, tag = "14")]
    location: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SparseWeightHead {
    #[prost(message, optional, tag = "1")]
    values: Option<WeightHead>,
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of one message, in the order of the file.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, Fault> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (tag, wire) = decode_key(&mut self.0)?;
        let field = match wire {
            WireType::Varint => Field::Number(decode_varint(&mut self.0)?),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut self.0)?).unwrap_or(usize::MAX);
                let Some((value, rest)) = self.0.split_at_checked(length) else {
                    return damaged("a field is longer than the file");
                };
                self.0 = rest;
                Field::Bytes(value)
            }
            _ => {
                skip_field(wire, tag, &mut self.0, DecodeContext::default())?;
                Field::Other
            }
        };
        Ok(Some((tag, field)))
    }
}

fn read_model(bytes: &[u8]) -> Result<OnnxModel, Fault> {
    let mut model = OnnxModel {
        ir_version: 0,
        producer: String::new(),
        producer_version: String::new(),
        opsets: Vec::new(),
        signature: Signature::default(),
    };
    let mut graph = None;
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Field::Number(version)) => model.ir_version = version as i64,
            (2, Field::Bytes(text)) => model.producer = producer(text)?,
            (3, Field::Bytes(text)) => model.producer_version = producer(text)?,
            (7, Field::Bytes(_)) if graph.is_some() => return damaged("it holds two graphs"),
            (7, Field::Bytes(message)) => graph = Some(message),
            (8, Field::Bytes(message)) => {
                if model.opsets.len() == MAX_VALUES || message.len() > MAX_DESCRIPTION {
                    return damaged("it imports too many operator sets");
                }
                let set = OperatorSet::decode(message)?;
                model.opsets.push((set.domain, set.version));
            }
            (1 | 2 | 3 | 7 | 8, _) => return damaged("a field has the wrong type"),
            _ => {}
        }
    }
    let Some(graph) = graph else { return damaged("it holds no graph") };
    if model.ir_version < 1 || model.opsets.is_empty() {
        return damaged("it does not say which operator sets it uses");
    }
    model.signature = read_graph(graph)?;
    Ok(model)
}

fn producer(bytes: &[u8]) -> Result<String, Fault> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= MAX_NAME => Ok(text.to_owned()),
        _ => damaged("the producer's name is not text"),
    }
}

fn read_graph(graph: &[u8]) -> Result<Signature, Fault> {
    let mut inputs = Vec::new();
    let mut outputs = Vec::new();
    let mut weights = HashSet::new();
    let mut fields = Fields(graph);
    while let Some(field) = fields.next()? {
        let (tag, Field::Bytes(message)) = field else { continue };
        match tag {
            5 | 15 => {
                if weights.len() == MAX_INITIALIZERS {
                    return damaged("it has too many weights");
                }
                let head = if tag == 5 {
                    WeightHead::decode(message)?
                } else {
                    SparseWeightHead::decode(message)?.values.unwrap_or_default()
                };
                if head.location == 1 {
                    return unsupported("it keeps its weights in a second file (external data); save it as one file, as in onnx.save(onnx.load(\"model.onnx\"), \"one.onnx\")".to_owned());
                }
                weights.insert(head.name);
            }
            11 | 12 => {
                let values = if tag == 11 { &mut inputs } else { &mut outputs };
                if values.len() == MAX_VALUES || message.len() > MAX_DESCRIPTION {
                    return damaged("it has too many or too large inputs and outputs");
                }
                values.push(ValueInfo::decode(message)?);
            }
            _ => {}
        }
    }
    // Before IR version 4 every weight is listed among the inputs, too.
    inputs.retain(|input| !weights.contains(&input.name));
    if outputs.is_empty() {
        return damaged("its graph has no outputs");
    }
    let signature = Signature {
        inputs: inputs.into_iter().map(input_spec).collect::<Result<_, _>>()?,
        outputs: outputs.into_iter().map(output_spec).collect::<Result<_, _>>()?,
    };
    for specs in [&signature.inputs, &signature.outputs] {
        let mut names = HashSet::new();
        for spec in specs {
            if spec.name.is_empty() || spec.name.len() > MAX_NAME || spec.name.chars().any(char::is_control) {
                return damaged("an input or output has no proper name");
            }
            if !names.insert(spec.name.as_str()) {
                return damaged("two inputs or two outputs have the same name");
            }
        }
    }
    Ok(signature)
}

fn input_spec(value: ValueInfo) -> Result<TensorSpec, Fault> {
    let ValueInfo { name, kind } = value;
    match kind.and_then(|kind| kind.kind) {
        Some(Kind::Tensor(tensor)) => {
            let Some(shape) = tensor.shape else {
                return unsupported(format!("input {name} does not say how many dimensions it has"));
            };
            tensor_spec("input", name, tensor.element, Some(shape))
        }
        Some(other) => {
            unsupported(format!("input {name} is {}, and only tensors are served as inputs", other.describe()))
        }
        None => damaged("an input has no type"),
    }
}

/// An output need not say its rank; such a one is listed as `[-1]`, and every answer carries the real shape.
fn output_spec(value: ValueInfo) -> Result<TensorSpec, Fault> {
    let ValueInfo { name, kind } = value;
    match kind.and_then(|kind| kind.kind) {
        Some(Kind::Tensor(tensor)) => tensor_spec("output", name, tensor.element, tensor.shape),
        Some(Kind::Sequence(sequence)) => match sequence.element.and_then(|element| element.kind) {
            Some(Kind::Map(map)) => map_spec(name, &map),
            _ => unsupported(format!("output {name} is a sequence, and only tensors and sequences of maps are served")),
        },
        Some(other) => unsupported(format!(
            "output {name} is {}, and only tensors and sequences of maps are served",
            other.describe()
        )),
        None => damaged("an output has no type"),
    }
}

impl Kind {
    fn describe(&self) -> &'static str {
        match self {
            Self::Tensor(_) => "a tensor",
            Self::Sequence(_) => "a sequence",
            Self::Map(_) => "a map",
            Self::SparseTensor(_) => "a sparse tensor",
            Self::Optional(_) => "optional",
        }
    }
}

fn tensor_spec(role: &str, name: String, element: i32, shape: Option<Shape>) -> Result<TensorSpec, Fault> {
    let Some(datatype) = datatype(element) else {
        return unsupported(format!(
            "{role} {name} has the ONNX element type {element}, for which the Open Inference Protocol has no name"
        ));
    };
    let shape = match shape {
        Some(shape) if shape.dimensions.len() > MAX_RANK => {
            return damaged("an input or output has too many dimensions");
        }
        Some(shape) => shape.dimensions.iter().map(|dimension| dimension.value.unwrap_or(-1).max(-1)).collect(),
        None => vec![-1],
    };
    Ok(TensorSpec { name, datatype, shape, map_keys: None })
}

/// What scikit-learn's classifiers answer: one map from class to probability for each row.
fn map_spec(name: String, map: &MapType) -> Result<TensorSpec, Fault> {
    let value = match map.value.as_ref().and_then(|value| value.kind.as_ref()) {
        Some(Kind::Tensor(tensor)) => datatype(tensor.element),
        _ => None,
    };
    match (datatype(map.key), value) {
        (Some(keys @ (Datatype::Int64 | Datatype::Bytes)), Some(Datatype::Fp32)) => {
            Ok(TensorSpec { name, datatype: Datatype::Fp32, shape: vec![-1, -1], map_keys: Some(keys) })
        }
        _ => unsupported(format!("output {name} is a sequence of maps that are not from INT64 or strings to FP32")),
    }
}

/// TensorProto.DataType.
fn datatype(element: i32) -> Option<Datatype> {
    Some(match element {
        1 => Datatype::Fp32,
        2 => Datatype::Uint8,
        3 => Datatype::Int8,
        4 => Datatype::Uint16,
        5 => Datatype::Int16,
        6 => Datatype::Int32,
        7 => Datatype::Int64,
        8 => Datatype::Bytes,
        9 => Datatype::Bool,
        10 => Datatype::Fp16,
        11 => Datatype::Fp64,
        12 => Datatype::Uint32,
        13 => Datatype::Uint64,
        16 => Datatype::Bf16,
        _ => return None,
    })
}
