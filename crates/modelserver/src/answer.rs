//! An answer on its way out: the memory that ONNX Runtime filled, written as JSON straight into the response.
//!
//! JSON has no NaN and no infinities; they are written as `null`.

use dure_types::model::{Datatype, TensorSpec};
use ort::value::{DynMapValueType, DynTensorValueType, DynValue, PrimitiveTensorElementType};
use serde::Serialize;

use crate::{error::Refusal, half};

/// One output of one run.
pub(crate) struct Output<'a> {
    pub spec: &'a TensorSpec,
    pub shape: Vec<i64>,
    pub labels: Option<Labels>,
    data: Data<'a>,
}

/// What the columns of a classifier's probabilities stand for.
#[derive(PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Labels {
    Numbers(Vec<i64>),
    Texts(Vec<String>),
}

enum Data<'a> {
    /// As bytes: a model may carry a BOOL constant that is neither 0 nor 1.
    Bool(&'a [u8]),
    Uint8(&'a [u8]),
    Uint16(&'a [u16]),
    Uint32(&'a [u32]),
    Uint64(&'a [u64]),
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Fp16(&'a [u16]),
    Bf16(&'a [u16]),
    Fp32(&'a [f32]),
    Fp64(&'a [f64]),
    Bytes(Vec<String>),
    Probabilities(Vec<f32>),
}

impl<'a> Output<'a> {
    pub fn read(value: &'a DynValue, spec: &'a TensorSpec) -> Result<Self, Refusal> {
        let unreadable = |error: ort::Error| Refusal::internal(format!("output {} cannot be read: {error}", spec.name));
        if let Some(keys) = spec.map_keys {
            return read_maps(value, spec, keys);
        }
        let Some(shape) = value.dtype().tensor_shape() else {
            return Err(Refusal::internal(format!("output {} is not the tensor that the model announced", spec.name)));
        };
        let data = match spec.datatype {
            Datatype::Bool => Data::Bool(raw(value, ort::value::TensorElementType::Bool).map_err(unreadable)?),
            Datatype::Fp16 => Data::Fp16(raw(value, ort::value::TensorElementType::Float16).map_err(unreadable)?),
            Datatype::Bf16 => Data::Bf16(raw(value, ort::value::TensorElementType::Bfloat16).map_err(unreadable)?),
            Datatype::Uint8 => Data::Uint8(typed(value).map_err(unreadable)?),
            Datatype::Uint16 => Data::Uint16(typed(value).map_err(unreadable)?),
            Datatype::Uint32 => Data::Uint32(typed(value).map_err(unreadable)?),
            Datatype::Uint64 => Data::Uint64(typed(value).map_err(unreadable)?),
            Datatype::Int8 => Data::Int8(typed(value).map_err(unreadable)?),
            Datatype::Int16 => Data::Int16(typed(value).map_err(unreadable)?),
            Datatype::Int32 => Data::Int32(typed(value).map_err(unreadable)?),
            Datatype::Int64 => Data::Int64(typed(value).map_err(unreadable)?),
            Datatype::Fp32 => Data::Fp32(typed(value).map_err(unreadable)?),
            Datatype::Fp64 => Data::Fp64(typed(value).map_err(unreadable)?),
            Datatype::Bytes => Data::Bytes(value.try_extract_strings().map_err(unreadable)?.1),
        };
        Ok(Self { spec, shape: shape.to_vec(), labels: None, data })
    }

    /// The values of all rows as one flat list.
    pub fn write_flat(&self, buffer: &mut Vec<u8>) {
        self.data.write(0, self.data.len(), buffer);
    }

    /// Whether it holds something for each of `rows` rows.
    pub fn has_rows(&self, rows: usize) -> bool {
        self.shape.first().is_some_and(|first| usize::try_from(*first) == Ok(rows))
    }

    /// The value of one row: a single value, nested lists, or class and probability. Needs [`Self::has_rows`].
    pub fn write_row(&self, row: usize, buffer: &mut Vec<u8>) {
        let rest = self.shape.get(1..).unwrap_or_default();
        let size = rest.iter().product::<i64>().max(0) as usize;
        let start = row * size;
        if let Some(labels) = &self.labels {
            return self.write_labelled(labels, start, size, buffer);
        }
        // What a regressor declares as [n,1] is one number for each row.
        let single = size == 1 && self.spec.shape.get(1..).unwrap_or_default().iter().all(|size| *size == 1);
        self.write_nested(if single { &[] } else { rest }, start, size, buffer);
    }

    fn write_nested(&self, rest: &[i64], start: usize, size: usize, buffer: &mut Vec<u8>) {
        match rest {
            [] => self.data.write(start, start + 1, buffer),
            [_] => {
                buffer.push(b'[');
                self.data.write(start, start + size, buffer);
                buffer.push(b']');
            }
            [count, inner @ ..] => {
                let count = (*count).max(0) as usize;
                let step = size.checked_div(count).unwrap_or(0);
                list(buffer, count, |index, buffer| self.write_nested(inner, start + index * step, step, buffer));
            }
        }
    }

    fn write_labelled(&self, labels: &Labels, start: usize, size: usize, buffer: &mut Vec<u8>) {
        buffer.push(b'{');
        for index in 0..size {
            if index > 0 {
                buffer.push(b',');
            }
            match labels {
                Labels::Texts(texts) => json(buffer, texts.get(index).map_or("", String::as_str)),
                Labels::Numbers(numbers) => {
                    buffer.push(b'"');
                    json(buffer, &numbers.get(index));
                    buffer.push(b'"');
                }
            }
            buffer.push(b':');
            self.data.write(start + index, start + index + 1, buffer);
        }
        buffer.push(b'}');
    }
}

fn typed<T: PrimitiveTensorElementType>(value: &DynValue) -> ort::Result<&[T]> {
    value.try_extract_tensor().map(|(_, values)| values)
}

/// For the element types that have no Rust type (or, as `bool`, one that not every byte is a value of); `T` is an integer of their size.
fn raw<T: Bits>(value: &DynValue, datatype: ort::value::TensorElementType) -> ort::Result<&[T]> {
    let tensor = value.view().downcast::<DynTensorValueType>()?;
    let count = tensor.shape().num_elements();
    if *tensor.data_type() != datatype
        || tensor.size() != Some(count * size_of::<T>())
        || !tensor.memory_info().is_cpu_accessible()
    {
        return Err(ort::Error::new("its type is not the one that the model announced"));
    }
    let memory = tensor.data_ptr().cast::<T>();
    if memory.is_null() {
        return Ok(&[]);
    }
    // SAFETY: CPU memory of `count` elements of this size, checked above, aligned by ONNX Runtime; every bit pattern is
    // a `T`; it belongs to the value, which is borrowed for as long as the slice.
    Ok(unsafe { std::slice::from_raw_parts(memory, count) })
}

/// Integers, of which every bit pattern is a value.
trait Bits {}
impl Bits for u8 {}
impl Bits for u16 {}

/// The sequence of maps of scikit-learn's classifiers as one table with its labels.
fn read_maps<'a>(value: &DynValue, spec: &'a TensorSpec, keys: Datatype) -> Result<Output<'a>, Refusal> {
    let unreadable = |error: ort::Error| Refusal::internal(format!("output {} cannot be read: {error}", spec.name));
    let maps = value.try_extract_sequence::<DynMapValueType>().map_err(unreadable)?;
    let rows = maps.len();
    let mut labels: Option<Labels> = None;
    let mut probabilities = Vec::new();
    for map in maps {
        let these = if keys == Datatype::Int64 {
            let pairs = map.try_extract_key_values::<i64, f32>().map_err(unreadable)?;
            probabilities.extend(pairs.iter().map(|(_, probability)| *probability));
            Labels::Numbers(pairs.into_iter().map(|(label, _)| label).collect())
        } else {
            let pairs = map.try_extract_key_values::<String, f32>().map_err(unreadable)?;
            probabilities.extend(pairs.iter().map(|(_, probability)| *probability));
            Labels::Texts(pairs.into_iter().map(|(label, _)| label).collect())
        };
        if labels.get_or_insert_with(|| Labels::Numbers(Vec::new())).is_empty() {
            labels = Some(these);
        } else if labels.as_ref() != Some(&these) {
            return Err(Refusal::internal(format!(
                "output {} has other labels in one row than in the next",
                spec.name
            )));
        }
    }
    let labels = labels.unwrap_or(Labels::Numbers(Vec::new()));
    let shape = vec![rows as i64, labels.len() as i64];
    Ok(Output { spec, shape, labels: Some(labels), data: Data::Probabilities(probabilities) })
}

impl Labels {
    fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Data<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Bool(values) | Self::Uint8(values) => values.len(),
            Self::Uint16(values) | Self::Fp16(values) | Self::Bf16(values) => values.len(),
            Self::Uint32(values) => values.len(),
            Self::Uint64(values) => values.len(),
            Self::Int8(values) => values.len(),
            Self::Int16(values) => values.len(),
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Fp32(values) => values.len(),
            Self::Fp64(values) => values.len(),
            Self::Bytes(values) => values.len(),
            Self::Probabilities(values) => values.len(),
        }
    }

    /// The values from `start` to `end`, with commas between them.
    fn write(&self, start: usize, end: usize, buffer: &mut Vec<u8>) {
        match self {
            Self::Bool(values) => join(values, start, end, buffer, |value, buffer| json(buffer, &(*value != 0))),
            Self::Fp16(values) => {
                join(values, start, end, buffer, |value, buffer| json(buffer, &half::from_fp16(*value)))
            }
            Self::Bf16(values) => {
                join(values, start, end, buffer, |value, buffer| json(buffer, &half::from_bf16(*value)))
            }
            Self::Uint8(values) => join(values, start, end, buffer, |value, buffer| json(buffer, value)),
            Self::Uint16(values) => join(values, start, end, buffer, |value, buffer| json(buffer, value)),
            Self::Uint32(values) => join(values, start, end, buffer, |value, buffer| json(buffer, value)),
            Self::Uint64(values) => join(values, start, end, buffer, |value, buffer| json(buffer, value)),
            Self::Int8(values) => join(values, start, end, buffer, |value, buffer| json(buffer, value)),
            Self::Int16(values) => join(values, start, end, buffer, |value, buffer| json(buffer, value)),
            Self::Int32(values) => join(values, start, end, buffer, |value, buffer| json(buffer, value)),
            Self::Int64(values) => join(values, start, end, buffer, |value, buffer| json(buffer, value)),
            Self::Fp32(values) => join(values, start, end, buffer, |value, buffer| json(buffer, value)),
            Self::Fp64(values) => join(values, start, end, buffer, |value, buffer| json(buffer, value)),
            Self::Bytes(values) => join(values, start, end, buffer, |value, buffer| json(buffer, value.as_str())),
            Self::Probabilities(values) => join(values, start, end, buffer, |value, buffer| json(buffer, value)),
        }
    }
}

fn join<T>(values: &[T], start: usize, end: usize, buffer: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    for (index, value) in values.get(start..end).unwrap_or_default().iter().enumerate() {
        if index > 0 {
            buffer.push(b',');
        }
        write(value, buffer);
    }
}

/// `[a,b,c]`
pub(crate) fn list(buffer: &mut Vec<u8>, count: usize, mut write: impl FnMut(usize, &mut Vec<u8>)) {
    buffer.push(b'[');
    for index in 0..count {
        if index > 0 {
            buffer.push(b',');
        }
        write(index, buffer);
    }
    buffer.push(b']');
}

/// Numbers, strings and plain lists; writing them to memory cannot fail.
pub(crate) fn json<T: Serialize + ?Sized>(buffer: &mut Vec<u8>, value: &T) {
    let written = serde_json::to_writer(&mut *buffer, value);
    debug_assert!(written.is_ok());
}
