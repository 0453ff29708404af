//! FP16 and BF16 as their bits: JSON has only decimal numbers, and the standard library has no stable 16-bit floats.

/// A 16-bit float by the number of its exponent and mantissa bits.
struct Format {
    exponent: u32,
    mantissa: u32,
}

const FP16: Format = Format { exponent: 5, mantissa: 10 };
const BF16: Format = Format { exponent: 8, mantissa: 7 };

pub(crate) fn to_fp16(value: f64) -> u16 {
    FP16.narrow(value)
}

pub(crate) fn to_bf16(value: f64) -> u16 {
    BF16.narrow(value)
}

pub(crate) fn from_fp16(bits: u16) -> f32 {
    FP16.widen(bits)
}

pub(crate) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

impl Format {
    fn bias(&self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    /// The bits of positive infinity.
    fn infinity(&self) -> u32 {
        ((1 << self.exponent) - 1) << self.mantissa
    }

    /// Rounds to nearest, ties to even, once: going through f32 would round twice.
    fn narrow(&self, value: f64) -> u16 {
        let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
        let magnitude = value.abs();
        let bits = if value.is_nan() {
            self.infinity() | 1 << (self.mantissa - 1)
        } else if magnitude.is_infinite() {
            self.infinity()
        } else if magnitude < f64::MIN_POSITIVE {
            0
        } else {
            let exponent = ((magnitude.to_bits() >> 52) as i32 - 1023).max(1 - self.bias());
            let scaled = magnitude * 2f64.powi(self.mantissa as i32 - exponent);
            // At most 2^(mantissa+1); a carry runs into the exponent, which is what it should do.
            let rounded = scaled.round_ties_even() as u64;
            let unit = 1u64 << self.mantissa;
            let bits = if rounded < unit {
                rounded
            } else {
                (((exponent + self.bias()) as u64) << self.mantissa) + (rounded - unit)
            };
            bits.min(u64::from(self.infinity())) as u32
        };
        sign | bits as u16
    }

    fn widen(&self, bits: u16) -> f32 {
        let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
        let magnitude = u32::from(bits & 0x7fff);
        let mantissa = magnitude & ((1 << self.mantissa) - 1);
        let exponent = (magnitude >> self.mantissa) as i32;
        let value = if magnitude > self.infinity() {
            f64::NAN
        } else if magnitude == self.infinity() {
            f64::INFINITY
        } else if exponent == 0 {
            f64::from(mantissa) * 2f64.powi(1 - self.bias() - self.mantissa as i32)
        } else {
            f64::from(mantissa | 1 << self.mantissa) * 2f64.powi(exponent - self.bias() - self.mantissa as i32)
        };
        (sign * value) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_bit_pattern_survives_the_way_there_and_back() {
        for bits in 0..=u16::MAX {
            let (fp16, bf16) = (from_fp16(bits), from_bf16(bits));
            if fp16.is_finite() {
                assert_eq!(to_fp16(f64::from(fp16)), bits);
            }
            if bf16.is_finite() {
                assert_eq!(to_bf16(f64::from(bf16)), bits);
            }
        }
    }

    #[test]
    fn known_values_round_to_nearest_and_ties_to_even() {
        assert_eq!(to_fp16(1.0), 0x3c00);
        assert_eq!(to_fp16(0.1), 0x2e66);
        assert_eq!(to_fp16(65504.0), 0x7bff);
        assert_eq!(to_fp16(65519.0), 0x7bff);
        assert_eq!(to_fp16(65520.0), 0x7c00);
        assert_eq!(to_fp16(-2.0), 0xc000);
        assert_eq!(to_fp16(1.0 + 2f64.powi(-11)), 0x3c00);
        assert_eq!(to_fp16(1.0 + 3.0 * 2f64.powi(-11)), 0x3c02);
        assert_eq!(to_fp16(2f64.powi(-24)), 1);
        assert_eq!(to_fp16(2f64.powi(-26)), 0);
        assert_eq!(to_bf16(1.0), 0x3f80);
        assert_eq!(to_bf16(3.140_625), 0x4049);
        assert_eq!(to_bf16(1e300), 0x7f80);
        assert!(from_fp16(to_fp16(f64::NAN)).is_nan());
    }
}
