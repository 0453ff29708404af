//! Reads `##dure {json}`, the line by which any program reports metrics.

use dure_types::run::number;
use serde::Deserialize;
use serde_json::{Map, Value};

pub const MARK: &str = "##dure ";

/// Values that a program reported at one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub metrics: Vec<(String, f64)>,
    pub step: Option<i64>,
}

#[derive(Deserialize)]
struct Line {
    metrics: Map<String, Value>,
    step: Option<i64>,
}

const LONGEST_NAME: usize = 200;
const MOST_METRICS: usize = 1000;

/// Whether a line is for Dure and not for the person who reads the log.
pub fn is_report(line: &str) -> bool {
    line.starts_with(MARK)
}

/// What a line reports; none when it is not such a line or not well-formed. A program's mistake must
/// not fail it, so what cannot be read is left out.
pub fn parse(line: &str) -> Option<Report> {
    let json = line.strip_prefix(MARK)?.trim_end();
    let line: Line = serde_json::from_str(json).ok().or_else(|| serde_json::from_str(&quote_bare(json)).ok())?;
    let metrics: Vec<_> = line
        .metrics
        .into_iter()
        .filter(|(name, _)| !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains(char::is_control))
        .filter_map(|(name, value)| number::read(&value).map(|value| (name, value)))
        .take(MOST_METRICS)
        .collect();
    Some(Report { metrics, step: line.step })
}

/// Python's own `json` writes NaN, Infinity and -Infinity bare. They are quoted here, outside strings.
fn quote_bare(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 16);
    let (mut rest, mut in_string) = (json, false);
    while let Some(next) = rest.chars().next() {
        let bare = ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| !in_string && rest.starts_with(word));
        if let Some(word) = bare {
            out.extend(['"'].into_iter().chain(word.chars()).chain(['"']));
            rest = &rest[word.len()..];
        } else if in_string && next == '\\' {
            let length = next.len_utf8() + rest[1..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..length]);
            rest = &rest[length..];
        } else {
            in_string ^= next == '"';
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_and_what_json_has_no_number_for_are_read() {
        let report =
            parse(r###"##dure {"metrics": {"loss": NaN, "a": "Infinity", "b": -Infinity, "NaN": 1}, "step": 3}"###)
                .unwrap();
        assert_eq!(report.step, Some(3));
        let values: std::collections::BTreeMap<_, _> = report.metrics.into_iter().collect();
        assert!(values["loss"].is_nan());
        assert_eq!((values["a"], values["b"], values["NaN"]), (f64::INFINITY, f64::NEG_INFINITY, 1.0));
    }

    #[test]
    fn lines_that_are_not_reports_are_left_alone() {
        for line in ["epoch 3", "##dure", "##dure {", "##dure []", " ##dure {\"metrics\":{}}"] {
            assert_eq!(parse(line), None, "{line}");
        }
        assert_eq!(parse(r###"##dure {"metrics":{"a":"high"}}"###).unwrap().metrics, []);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in ".{0,80}") {
            let _ = parse(&format!("{MARK}{line}"));
        }
    }
}
