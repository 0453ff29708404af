//! The Open Inference Protocol's inference request and response.
//!
//! A request is read in one pass: the values of an input go straight into typed memory when its name
//! stands before its data (every client writes it so), and are kept as text until then otherwise.

use std::{borrow::Cow, fmt};

use dure_types::model::{Datatype, Signature, TensorSpec};
use ort::session::SessionInputValue;
use serde::{
    Deserialize,
    de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    answer::{Output, json, list},
    error::Refusal,
    tensor::{Buffer, Shown, Sizes, check_shape},
};

/// A request whose inputs fit the model.
pub(crate) struct Request<'de> {
    pub id: Option<Cow<'de, str>>,
    /// In the order of the signature.
    pub inputs: Vec<SessionInputValue<'static>>,
    /// Which outputs to answer, by their place in the signature.
    pub outputs: Vec<usize>,
}

/// Borrowed from the body unless it holds escapes.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

#[derive(Default)]
struct Parsed<'de> {
    id: Option<Cow<'de, str>>,
    inputs: Option<Vec<Input<'de>>>,
    outputs: Option<Vec<Wanted<'de>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    parameters: Parameters,
}

/// The protocol leaves them to the server. Those that say what is done here anyway are taken, all others refused.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(default)]
    binary_data: Option<bool>,
    #[serde(default)]
    binary_data_output: Option<bool>,
    #[serde(default)]
    binary_data_size: Option<IgnoredAny>,
}

impl Parameters {
    fn check<E: de::Error>(&self) -> Result<(), E> {
        if self.binary_data == Some(true) || self.binary_data_output == Some(true) || self.binary_data_size.is_some() {
            return Err(E::custom(
                "the binary tensor extension is not supported: send `data`, and set binary_data to false for inputs and outputs",
            ));
        }
        Ok(())
    }
}

struct Input<'de> {
    name: Cow<'de, str>,
    datatype: Datatype,
    shape: Vec<i64>,
    data: Values<'de>,
}

enum Values<'de> {
    Read(Buffer, Sizes),
    Text(&'de RawValue),
}

pub(crate) fn read<'de>(body: &'de [u8], signature: &Signature) -> Result<Request<'de>, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = json.deserialize_map(RequestVisitor { signature })?;
    json.end()?;
    let mut inputs: Vec<Option<SessionInputValue<'static>>> = signature.inputs.iter().map(|_| None).collect();
    let mut rows_of: Vec<(usize, i64)> = Vec::new();
    for input in parsed.inputs.unwrap_or_default() {
        let Some(index) = signature.inputs.iter().position(|spec| spec.name == input.name) else {
            return Err(Refusal::input(format!(
                "no input named {}; this model takes {}",
                Shown(&input.name),
                describe(&signature.inputs)
            )));
        };
        if inputs[index].is_some() {
            return Err(Refusal::input(format!("input {} is given twice", input.name)));
        }
        let rows =
            input.shape.first().copied().filter(|_| signature.inputs[index].shape.first().is_some_and(|n| *n < 0));
        rows_of.extend(rows.map(|rows| (index, rows)));
        inputs[index] = Some(finish(&signature.inputs[index], input)?);
    }
    // ONNX Runtime may answer rows that no input has when one of several inputs is empty.
    let empty = rows_of.iter().find(|(_, rows)| *rows == 0);
    let filled = rows_of.iter().find(|(_, rows)| *rows > 0);
    if let (Some((empty, _)), Some((filled, rows))) = (empty, filled) {
        let name = |index: &usize| &signature.inputs[*index].name;
        return Err(Refusal::input(format!(
            "the inputs have different numbers of rows: {} has 0, {} has {rows}",
            name(empty),
            name(filled)
        )));
    }
    let missing: Vec<&TensorSpec> =
        signature.inputs.iter().zip(&inputs).filter(|(_, value)| value.is_none()).map(|(spec, _)| spec).collect();
    if !missing.is_empty() {
        return Err(Refusal::input(format!("missing input: {}", describe(missing))));
    }
    let outputs = match parsed.outputs.filter(|wanted| !wanted.is_empty()) {
        None => (0..signature.outputs.len()).collect(),
        Some(wanted) => wanted.iter().map(|wanted| output(signature, wanted)).collect::<Result<_, _>>()?,
    };
    Ok(Request { id: parsed.id, inputs: inputs.into_iter().flatten().collect(), outputs })
}

fn output(signature: &Signature, wanted: &Wanted<'_>) -> Result<usize, Refusal> {
    signature.outputs.iter().position(|spec| spec.name == wanted.name).ok_or_else(|| {
        Refusal::input(format!(
            "no output named {}; this model answers {}",
            Shown(&wanted.name),
            describe(&signature.outputs)
        ))
    })
}

/// Checks one input against its specification.
fn finish(spec: &TensorSpec, input: Input<'_>) -> Result<SessionInputValue<'static>, Refusal> {
    let name = &spec.name;
    if input.datatype != spec.datatype {
        let (expected, got) = (spec.datatype.as_str(), input.datatype.as_str());
        return Err(Refusal::input(format!(
            "input {name}: expected {expected} {}, got {got}",
            crate::tensor::shape_text(&spec.shape)
        )));
    }
    check_shape(spec, &input.shape)?;
    let (buffer, sizes) = match input.data {
        Values::Read(buffer, sizes) => (buffer, sizes),
        Values::Text(text) => {
            let mut buffer = Buffer::new(spec.datatype);
            let mut sizes = Sizes::default();
            buffer
                .read(&mut sizes, 0, &mut serde_json::Deserializer::from_str(text.get()))
                .map_err(|error| Refusal::input(format!("input {name}: {error}")))?;
            (buffer, sizes)
        }
    };
    // Every size is at most i32::MAX and the product was checked, so it fits.
    let count = input.shape.iter().product::<i64>();
    let nested: Vec<i64> = sizes.from(0).map(|size| size as i64).collect();
    if buffer.len() as i64 != count || (nested.len() > 1 && count > 0 && nested != input.shape) {
        let got =
            if nested.len() > 1 { format!("nested lists of sizes {nested:?}") } else { format!("{}", buffer.len()) };
        return Err(Refusal::input(format!(
            "input {name}: shape {:?} has {count} values, and data holds {got}",
            input.shape
        )));
    }
    buffer.into_value(&input.shape).map_err(|error| Refusal::input(format!("input {name}: {error}")))
}

fn describe<'a>(specs: impl IntoIterator<Item = &'a TensorSpec>) -> String {
    specs.into_iter().map(TensorSpec::describe).collect::<Vec<_>>().join(", ")
}

struct RequestVisitor<'s> {
    signature: &'s Signature,
}

impl<'de> Visitor<'de> for RequestVisitor<'_> {
    type Value = Parsed<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an inference request: {\"inputs\": [{\"name\", \"shape\", \"datatype\", \"data\"}]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed<'de>, A::Error> {
        let mut parsed = Parsed::default();
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "id" => parsed.id = map.next_value::<Option<Text<'de>>>()?.map(|text| text.0),
                "parameters" => map.next_value::<Parameters>()?.check()?,
                "inputs" if parsed.inputs.is_some() => return Err(de::Error::duplicate_field("inputs")),
                "inputs" => parsed.inputs = Some(map.next_value_seed(Inputs { signature: self.signature })?),
                "outputs" => {
                    let wanted = map.next_value::<Option<Vec<Wanted<'de>>>>()?.unwrap_or_default();
                    wanted.iter().try_for_each(|wanted| wanted.parameters.check())?;
                    parsed.outputs = Some(wanted);
                }
                other => {
                    return Err(de::Error::custom(format_args!(
                        "unknown field {}; fields: id, parameters, inputs, outputs",
                        Shown(other)
                    )));
                }
            }
        }
        if parsed.inputs.is_none() {
            return Err(de::Error::missing_field("inputs"));
        }
        Ok(parsed)
    }
}

struct Inputs<'s> {
    signature: &'s Signature,
}

impl<'de> DeserializeSeed<'de> for Inputs<'_> {
    type Value = Vec<Input<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Inputs<'_> {
    type Value = Vec<Input<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of inputs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut inputs = Vec::with_capacity(self.signature.inputs.len());
        while let Some(input) = array.next_element_seed(InputSeed { signature: self.signature })? {
            inputs.push(input);
        }
        Ok(inputs)
    }
}

struct InputSeed<'s> {
    signature: &'s Signature,
}

impl<'de> DeserializeSeed<'de> for InputSeed<'_> {
    type Value = Input<'de>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Input<'de>, D::Error> {
        json.deserialize_map(self)
    }
}

/// The values of the input whose name is already known.
struct DataSeed<'s> {
    spec: &'s TensorSpec,
}

impl<'de> DeserializeSeed<'de> for DataSeed<'_> {
    type Value = Values<'de>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Values<'de>, D::Error> {
        let mut buffer = Buffer::new(self.spec.datatype);
        let mut sizes = Sizes::default();
        buffer
            .read(&mut sizes, 0, json)
            .map_err(|error| de::Error::custom(format_args!("input {}: {error}", self.spec.name)))?;
        Ok(Values::Read(buffer, sizes))
    }
}

impl<'de> Visitor<'de> for InputSeed<'_> {
    type Value = Input<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an input: {\"name\", \"shape\", \"datatype\", \"data\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Input<'de>, A::Error> {
        let (mut name, mut datatype, mut shape, mut data) =
            (None::<Cow<'de, str>>, None::<Datatype>, None::<Vec<i64>>, None);
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "name" => name = Some(map.next_value::<Text<'de>>()?.0),
                "datatype" => datatype = Some(map.next_value()?),
                "shape" => shape = Some(map.next_value()?),
                "parameters" => map.next_value::<Parameters>()?.check()?,
                "data" if data.is_some() => return Err(de::Error::duplicate_field("data")),
                "data" => {
                    let spec =
                        name.as_ref().and_then(|name| self.signature.inputs.iter().find(|spec| spec.name == **name));
                    // With another datatype than the model's, the values are not read: the error is about the datatype.
                    data = Some(match spec.filter(|spec| datatype.is_none_or(|datatype| datatype == spec.datatype)) {
                        Some(spec) => map.next_value_seed(DataSeed { spec })?,
                        None => Values::Text(map.next_value()?),
                    });
                }
                other => {
                    return Err(de::Error::custom(format_args!(
                        "unknown field {} of an input; fields: name, shape, datatype, parameters, data",
                        Shown(other)
                    )));
                }
            }
        }
        Ok(Input {
            name: name.ok_or_else(|| de::Error::missing_field("name"))?,
            datatype: datatype.ok_or_else(|| de::Error::missing_field("datatype"))?,
            shape: shape.ok_or_else(|| de::Error::missing_field("shape"))?,
            data: data.ok_or_else(|| de::Error::missing_field("data"))?,
        })
    }
}

/// The response; `outputs` are those that were asked for.
pub(crate) fn write(name: &str, version: &str, id: Option<&str>, outputs: &[Output<'_>]) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(512);
    buffer.extend_from_slice(b"{\"model_name\":");
    json(&mut buffer, name);
    buffer.extend_from_slice(b",\"model_version\":");
    json(&mut buffer, version);
    if let Some(id) = id {
        buffer.extend_from_slice(b",\"id\":");
        json(&mut buffer, id);
    }
    buffer.extend_from_slice(b",\"outputs\":");
    list(&mut buffer, outputs.len(), |index, buffer| {
        let output = &outputs[index];
        buffer.extend_from_slice(b"{\"name\":");
        json(buffer, &output.spec.name);
        buffer.extend_from_slice(b",\"datatype\":\"");
        buffer.extend_from_slice(output.spec.datatype.as_str().as_bytes());
        buffer.extend_from_slice(b"\",\"shape\":");
        json(buffer, &output.shape);
        if let Some(labels) = &output.labels {
            buffer.extend_from_slice(b",\"parameters\":{\"labels\":");
            json(buffer, labels);
            buffer.push(b'}');
        }
        buffer.extend_from_slice(b",\"data\":[");
        output.write_flat(buffer);
        buffer.extend_from_slice(b"]}");
    });
    buffer.push(b'}');
    buffer
}
