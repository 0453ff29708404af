//! How one JSON value becomes an element of a tensor, for each datatype.
//!
//! Nothing is guessed: a string is not a number, and a number that the datatype cannot hold is refused.
//! `null` is a missing value, which a float tensor writes as NaN.

use crate::half;

#[derive(Clone, Copy)]
pub(crate) struct Fp16(pub u16);
#[derive(Clone, Copy)]
pub(crate) struct Bf16(pub u16);

/// A type that JSON values turn into; `None` where this one does not.
pub(crate) trait Element: Sized {
    const WANTED: &'static str;

    fn unsigned(_: u64) -> Option<Self> {
        None
    }
    fn signed(_: i64) -> Option<Self> {
        None
    }
    fn float(_: f64) -> Option<Self> {
        None
    }
    fn boolean(_: bool) -> Option<Self> {
        None
    }
    fn text(_: &str) -> Option<Self> {
        None
    }
    fn missing() -> Option<Self> {
        None
    }
}

macro_rules! integers {
    ($($type:ty => $wanted:literal),*) => {$(
        impl Element for $type {
            const WANTED: &'static str = $wanted;

            fn unsigned(value: u64) -> Option<Self> {
                value.try_into().ok()
            }
            fn signed(value: i64) -> Option<Self> {
                value.try_into().ok()
            }
            /// Python and spreadsheets write whole numbers as `3.0`.
            fn float(value: f64) -> Option<Self> {
                const EXACT: f64 = 9_007_199_254_740_992.0;
                if value.fract() == 0.0 && value.abs() <= EXACT { Self::signed(value as i64) } else { None }
            }
        }
    )*};
}

integers!(u8 => "UINT8 values", u16 => "UINT16 values", u32 => "UINT32 values", u64 => "UINT64 values",
    i8 => "INT8 values", i16 => "INT16 values", i32 => "INT32 values", i64 => "INT64 values");

macro_rules! floats {
    ($($type:ty => $wanted:literal, $narrow:expr, $finite:expr;)*) => {$(
        impl Element for $type {
            const WANTED: &'static str = $wanted;

            fn unsigned(value: u64) -> Option<Self> {
                Self::float(value as f64)
            }
            fn signed(value: i64) -> Option<Self> {
                Self::float(value as f64)
            }
            fn float(value: f64) -> Option<Self> {
                let narrowed = $narrow(value);
                $finite(narrowed).then_some(narrowed)
            }
            fn missing() -> Option<Self> {
                Some($narrow(f64::NAN))
            }
        }
    )*};
}

floats! {
    f32 => "FP32 values", |value| value as f32, f32::is_finite;
    f64 => "FP64 values", std::convert::identity, f64::is_finite;
    Fp16 => "FP16 values", |value| Fp16(half::to_fp16(value)), |value: Fp16| half::from_fp16(value.0).is_finite();
    Bf16 => "BF16 values", |value| Bf16(half::to_bf16(value)), |value: Bf16| half::from_bf16(value.0).is_finite();
}

impl Element for bool {
    const WANTED: &'static str = "BOOL values (true or false)";

    fn boolean(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl Element for String {
    const WANTED: &'static str = "strings (BYTES), without NUL characters";

    /// ONNX Runtime takes strings as C does.
    fn text(value: &str) -> Option<Self> {
        (!value.contains('\0')).then(|| value.to_owned())
    }
}
