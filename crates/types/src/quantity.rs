//! Quantities as the field writes them: `500m` of a CPU, `4Gi` of memory, and money.

use std::{borrow::Cow, fmt, ops::Add, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// CPU in thousandths of a core: `1`, `0.5` and `500m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cpu(u64);

impl Cpu {
    pub const fn from_milli(milli: u64) -> Self {
        Self(milli)
    }

    pub const fn milli(self) -> u64 {
        self.0
    }
}

const MOST_MILLI: u64 = 100_000_000;

impl FromStr for Cpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an amount of CPU (for example 1, 0.5 or 500m)");
        let milli = match text.strip_suffix('m') {
            Some(milli) => whole(milli).ok_or_else(wrong)?,
            None => thousandths(text).ok_or_else(wrong)?,
        };
        if milli == 0 || milli > MOST_MILLI { Err(wrong()) } else { Ok(Self(milli)) }
    }
}

fn whole(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// A decimal number with up to three places, in thousandths.
fn thousandths(text: &str) -> Option<u64> {
    let (units, places) = text.split_once('.').unwrap_or((text, "0"));
    if places.len() > 3 {
        return None;
    }
    let scale = 10_u64.pow(3 - places.len() as u32);
    whole(units)?.checked_mul(1000)?.checked_add(whole(places)? * scale)
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}", self.0 / 1000) } else { write!(f, "{}m", self.0) }
    }
}

/// Memory in bytes: `512Mi`, `4Gi`, `1500M`, `2G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Memory(u64);

const MEMORY_UNITS: [(&str, u64); 8] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

impl Memory {
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an amount of memory (for example 512Mi, 4Gi or 2G)");
        let (number, each) = MEMORY_UNITS
            .iter()
            .find_map(|(unit, each)| text.strip_suffix(unit).map(|number| (number, *each)))
            .ok_or_else(|| {
                if whole(text).is_some() { format!("{}; a bare number has no unit", wrong()) } else { wrong() }
            })?;
        let thousandths = u128::from(thousandths(number).ok_or_else(wrong)?);
        let bytes = thousandths * u128::from(each) / 1000;
        match u64::try_from(bytes) {
            Ok(bytes) if bytes > 0 && bytes < 1 << 53 => Ok(Self(bytes)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, each) in &MEMORY_UNITS[..4] {
            if self.0 >= *each && self.0.is_multiple_of(*each) {
                return write!(f, "{}{unit}", self.0 / each);
            }
        }
        write!(f, "{}k", self.0.div_ceil(1000))
    }
}

/// An amount of money in billionths of a dollar; integers, so that sums are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(i64);

impl Money {
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    pub const fn nanos(self) -> i64 {
        self.0
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::iter::Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Money {
    /// Cents where there are dollars, more places where there are less than cents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dollars = self.0 as f64 / 1e9;
        match dollars.abs() {
            small if small != 0.0 && small < 0.000_001 => f.write_str("<$0.000001"),
            small if small != 0.0 && small < 0.01 => write!(f, "${dollars:.6}"),
            small if small != 0.0 && small < 1.0 => write!(f, "${dollars:.4}"),
            _ => write!(f, "${dollars:.2}"),
        }
    }
}

/// Quantities are strings, but `cpu: 1` and `cpu: 0.5` are numbers in YAML and mean what they say.
macro_rules! quantity {
    ($type:ident, $name:literal, $expecting:literal, $pattern:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }

                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }

                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_any(Visitor)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": ["string", "number"], "description": $expecting, "pattern": $pattern})
            }
        }
    };
}

quantity!(Cpu, "Cpu", "an amount of CPU: 1, 0.5 or 500m", "^[0-9]+(\\.[0-9]{1,3}|m)?$");
quantity!(Memory, "Memory", "an amount of memory: 512Mi, 4Gi or 2G", "^[0-9]+(\\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_read_as_the_field_writes_it() {
        for (text, milli) in [("1", 1000), ("0.5", 500), ("500m", 500), ("2.25", 2250), ("64", 64_000)] {
            assert_eq!(text.parse::<Cpu>().unwrap().milli(), milli, "{text}");
        }
        for bad in ["0", "-1", "1.2345", "m", "", "1 core", "1e3", "99999999999999999999"] {
            assert!(bad.parse::<Cpu>().is_err(), "{bad}");
        }
    }

    #[test]
    fn memory_needs_a_unit() {
        for (text, bytes) in [("512Mi", 512 << 20), ("4Gi", 4_u64 << 30), ("1.5Gi", 3 << 29), ("2G", 2_000_000_000)] {
            assert_eq!(text.parse::<Memory>().unwrap().bytes(), bytes, "{text}");
        }
        for bad in ["512", "0Mi", "4gi", "GB", "1e9", "99999999999Ti"] {
            assert!(bad.parse::<Memory>().is_err(), "{bad}");
        }
        assert!("512".parse::<Memory>().unwrap_err().contains("no unit"));
    }

    #[test]
    fn money_shows_small_amounts_too() {
        assert_eq!(Money::from_nanos(100_000).to_string(), "$0.000100");
        assert_eq!(Money::from_nanos(12_340_000_000).to_string(), "$12.34");
    }
}
