//! An input tensor on its way in: JSON arrays, flat or nested, straight into the typed memory that ONNX Runtime reads.

use std::fmt;

use dure_types::model::{Datatype, TensorSpec};
use ort::{
    memory::Allocator,
    session::SessionInputValue,
    value::{DynTensor, Tensor, TensorElementType},
};
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use crate::{
    element::{Bf16, Element, Fp16},
    error::Refusal,
};

/// The values of one tensor, row-major.
pub(crate) enum Buffer {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp16(Vec<Fp16>),
    Bf16(Vec<Bf16>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Bytes(Vec<String>),
}

/// Runs the same code for whichever vector the buffer holds.
macro_rules! for_buffer {
    ($buffer:expr, $values:ident => $code:expr) => {
        match $buffer {
            Buffer::Bool($values) => $code,
            Buffer::Uint8($values) => $code,
            Buffer::Uint16($values) => $code,
            Buffer::Uint32($values) => $code,
            Buffer::Uint64($values) => $code,
            Buffer::Int8($values) => $code,
            Buffer::Int16($values) => $code,
            Buffer::Int32($values) => $code,
            Buffer::Int64($values) => $code,
            Buffer::Fp16($values) => $code,
            Buffer::Bf16($values) => $code,
            Buffer::Fp32($values) => $code,
            Buffer::Fp64($values) => $code,
            Buffer::Bytes($values) => $code,
        }
    };
}

impl Buffer {
    pub fn new(datatype: Datatype) -> Self {
        match datatype {
            Datatype::Bool => Self::Bool(Vec::new()),
            Datatype::Uint8 => Self::Uint8(Vec::new()),
            Datatype::Uint16 => Self::Uint16(Vec::new()),
            Datatype::Uint32 => Self::Uint32(Vec::new()),
            Datatype::Uint64 => Self::Uint64(Vec::new()),
            Datatype::Int8 => Self::Int8(Vec::new()),
            Datatype::Int16 => Self::Int16(Vec::new()),
            Datatype::Int32 => Self::Int32(Vec::new()),
            Datatype::Int64 => Self::Int64(Vec::new()),
            Datatype::Fp16 => Self::Fp16(Vec::new()),
            Datatype::Bf16 => Self::Bf16(Vec::new()),
            Datatype::Fp32 => Self::Fp32(Vec::new()),
            Datatype::Fp64 => Self::Fp64(Vec::new()),
            Datatype::Bytes => Self::Bytes(Vec::new()),
        }
    }

    pub fn len(&self) -> usize {
        for_buffer!(self, values => values.len())
    }

    /// Reads one JSON value at `depth` and adds what it holds.
    pub fn read<'de, D: Deserializer<'de>>(
        &mut self,
        sizes: &mut Sizes,
        depth: usize,
        json: D,
    ) -> Result<(), D::Error> {
        for_buffer!(self, values => Nested { values, sizes, depth }.deserialize(json))
    }

    /// Zeros and empty strings, for the warm-up.
    pub fn zeros(datatype: Datatype, count: usize) -> Self {
        match datatype {
            Datatype::Bool => Self::Bool(vec![false; count]),
            Datatype::Uint8 => Self::Uint8(vec![0; count]),
            Datatype::Uint16 => Self::Uint16(vec![0; count]),
            Datatype::Uint32 => Self::Uint32(vec![0; count]),
            Datatype::Uint64 => Self::Uint64(vec![0; count]),
            Datatype::Int8 => Self::Int8(vec![0; count]),
            Datatype::Int16 => Self::Int16(vec![0; count]),
            Datatype::Int32 => Self::Int32(vec![0; count]),
            Datatype::Int64 => Self::Int64(vec![0; count]),
            Datatype::Fp16 => Self::Fp16(vec![Fp16(0); count]),
            Datatype::Bf16 => Self::Bf16(vec![Bf16(0); count]),
            Datatype::Fp32 => Self::Fp32(vec![0.0; count]),
            Datatype::Fp64 => Self::Fp64(vec![0.0; count]),
            Datatype::Bytes => Self::Bytes(vec![String::new(); count]),
        }
    }

    /// Hands the memory to ONNX Runtime; only strings and 16-bit floats are copied.
    pub fn into_value(self, shape: &[i64]) -> ort::Result<SessionInputValue<'static>> {
        Ok(match self {
            Self::Bool(values) => Tensor::from_array((shape, values))?.into(),
            Self::Uint8(values) => Tensor::from_array((shape, values))?.into(),
            Self::Uint16(values) => Tensor::from_array((shape, values))?.into(),
            Self::Uint32(values) => Tensor::from_array((shape, values))?.into(),
            Self::Uint64(values) => Tensor::from_array((shape, values))?.into(),
            Self::Int8(values) => Tensor::from_array((shape, values))?.into(),
            Self::Int16(values) => Tensor::from_array((shape, values))?.into(),
            Self::Int32(values) => Tensor::from_array((shape, values))?.into(),
            Self::Int64(values) => Tensor::from_array((shape, values))?.into(),
            Self::Fp32(values) => Tensor::from_array((shape, values))?.into(),
            Self::Fp64(values) => Tensor::from_array((shape, values))?.into(),
            Self::Fp16(values) => halves(TensorElementType::Float16, shape, values.iter().map(|value| value.0))?,
            Self::Bf16(values) => halves(TensorElementType::Bfloat16, shape, values.iter().map(|value| value.0))?,
            Self::Bytes(values) => Tensor::from_string_array((shape, values.as_slice()))?.into(),
        })
    }
}

fn halves(
    datatype: TensorElementType,
    shape: &[i64],
    bits: impl ExactSizeIterator<Item = u16>,
) -> ort::Result<SessionInputValue<'static>> {
    let mut tensor = DynTensor::new(&Allocator::default(), datatype, ort::value::Shape::new(shape.iter().copied()))?;
    if tensor.size() != Some(bits.len() * 2) {
        return Err(ort::Error::new("the number of values does not fit the shape"));
    }
    let memory = tensor.data_ptr_mut().cast::<u16>();
    if !memory.is_null() {
        for (index, value) in bits.enumerate() {
            // SAFETY: the tensor is CPU memory of exactly `bits.len()` 16-bit elements, checked above, aligned by
            // ONNX Runtime for its element type, and nobody else has it yet.
            unsafe { memory.add(index).write(value) };
        }
    }
    Ok(tensor.into())
}

/// The sizes of nested arrays, outermost first, which must be the same everywhere at one depth.
#[derive(Default)]
pub(crate) struct Sizes {
    sizes: Vec<Option<usize>>,
    /// How many arrays stand around every value; `None` before the first one.
    values_at: Option<usize>,
}

/// Deeper arrays are no tensor.
const MAX_DEPTH: usize = 16;

impl Sizes {
    /// From `depth` on.
    pub fn from(&self, depth: usize) -> impl Iterator<Item = usize> + '_ {
        self.sizes.iter().skip(depth).map(|size| size.unwrap_or(0))
    }

    fn value<E: de::Error>(&mut self, depth: usize) -> Result<(), E> {
        match self.values_at {
            Some(known) if known == depth => Ok(()),
            None => {
                self.values_at = Some(depth);
                Ok(())
            }
            Some(_) => Err(E::custom("arrays and single values are mixed")),
        }
    }

    fn array<E: de::Error>(&mut self, depth: usize, size: usize) -> Result<(), E> {
        if self.sizes.len() <= depth {
            self.sizes.resize(depth + 1, None);
        }
        match self.sizes[depth].replace(size) {
            Some(before) if before != size => {
                Err(E::custom(format_args!("arrays of different lengths: {before} and {size}")))
            }
            _ => Ok(()),
        }
    }
}

struct Nested<'b, T> {
    values: &'b mut Vec<T>,
    sizes: &'b mut Sizes,
    depth: usize,
}

impl<T: Element> Nested<'_, T> {
    fn push<E: de::Error>(self, value: Option<T>, shown: impl fmt::Display) -> Result<(), E> {
        let value = value.ok_or_else(|| E::custom(format_args!("expected {}, got {shown}", T::WANTED)))?;
        self.sizes.value(self.depth)?;
        self.values.push(value);
        Ok(())
    }
}

impl<'de, T: Element> DeserializeSeed<'de> for Nested<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, T: Element> Visitor<'de> for Nested<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} or arrays of them", T::WANTED)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        if self.depth >= MAX_DEPTH || self.sizes.values_at.is_some_and(|depth| depth <= self.depth) {
            return Err(de::Error::custom("arrays and single values are mixed, or nested too deeply"));
        }
        let mut size = 0;
        while array
            .next_element_seed(Nested { values: &mut *self.values, sizes: &mut *self.sizes, depth: self.depth + 1 })?
            .is_some()
        {
            size += 1;
        }
        self.sizes.array(self.depth, size)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.push(T::unsigned(value), value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.push(T::signed(value), value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.push(T::float(value), value)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.push(T::boolean(value), value)
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.push(T::missing(), "null")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.push(T::text(value), Shown(value))
    }
}

/// A user's text in a message: quoted and short.
pub(crate) struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 60;
        match self.0.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "{:?}...", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// `[n,64]`: the first free size is the number of rows, any other is unknown.
pub(crate) fn shape_text(shape: &[i64]) -> String {
    let sizes: Vec<_> = shape
        .iter()
        .enumerate()
        .map(|(index, size)| match (index, *size) {
            (0, ..0) => "n".to_owned(),
            (_, ..0) => "?".to_owned(),
            (_, size) => size.to_string(),
        })
        .collect();
    format!("[{}]", sizes.join(","))
}

/// Whether `shape` is one that the input takes.
pub(crate) fn check_shape(spec: &TensorSpec, shape: &[i64]) -> Result<(), Refusal> {
    // No tensor is larger, and products of such sizes are checked below.
    const LARGEST: i64 = i32::MAX as i64;
    let fits = shape.len() == spec.shape.len()
        && spec
            .shape
            .iter()
            .zip(shape)
            .all(|(expected, size)| (0..=LARGEST).contains(size) && (*expected < 0 || expected == size));
    if fits && shape.iter().try_fold(1i64, |count, size| count.checked_mul(*size)).is_some() {
        return Ok(());
    }
    Err(Refusal::input(format!(
        "input {}: expected {} {}, got {}",
        spec.name,
        spec.datatype.as_str(),
        shape_text(&spec.shape),
        plain(shape)
    )))
}

fn plain(shape: &[i64]) -> String {
    format!("[{}]", shape.iter().map(i64::to_string).collect::<Vec<_>>().join(","))
}
