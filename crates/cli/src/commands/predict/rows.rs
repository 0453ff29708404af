//! Reads the rows of a file and gives them the form that a model takes.
//!
//! The columns of a table are matched to several inputs by name; to the places of one input of many values
//! by their order, because such a model does not know what its columns were called.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use dure_types::model::{Datatype, Signature, TensorSpec};
use serde_json::{Map, Value};

use crate::{exit::CliError, messages, output::format};

/// More than this is not read into memory.
const LARGEST: u64 = 1 << 30;

#[derive(Debug)]
pub struct Input {
    file: String,
    rows: Rows,
    /// What is right, for each row.
    pub truth: Option<Vec<String>>,
}

#[derive(Debug)]
enum Rows {
    Table { columns: Vec<String>, rows: Vec<Vec<String>> },
    Json(Vec<Value>),
}

#[derive(Debug)]
pub struct Encoded {
    pub rows: Vec<Value>,
    /// Columns that no input is called after.
    pub left_out: Vec<String>,
}

impl Input {
    pub fn read(file: &Path, truth: Option<&str>) -> Result<Self, CliError> {
        let unreadable = |error: io::Error| CliError::unreadable(file, &error);
        let mut bytes = Vec::new();
        if file == Path::new("-") {
            io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        } else {
            fs::File::open(file).and_then(|open| open.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
        }
        if bytes.len() as u64 > LARGEST {
            return Err(CliError::file(messages::too_large(file.display(), format::bytes(LARGEST))));
        }
        let text = String::from_utf8(bytes).map_err(|_| CliError::file(messages::not_text(file.display())))?;
        Self::of(&text, &file.display().to_string(), truth)
    }

    fn of(text: &str, file: &str, truth: Option<&str>) -> Result<Self, CliError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let input = match text.trim_start().as_bytes().first() {
            Some(b'[' | b'{') => Self::of_json(text, file, truth)?,
            _ => Self::of_csv(text, file, truth)?,
        };
        if input.len() == 0 { Err(CliError::file(messages::no_rows(file))) } else { Ok(input) }
    }

    pub fn len(&self) -> usize {
        match &self.rows {
            Rows::Table { rows, .. } => rows.len(),
            Rows::Json(rows) => rows.len(),
        }
    }

    fn of_csv(text: &str, file: &str, truth: Option<&str>) -> Result<Self, CliError> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let fault = |error: csv::Error| match error.kind() {
            csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
                let line = pos.as_ref().map_or(0, csv::Position::line);
                CliError::file(messages::ragged(file, line, len, expected_len))
            }
            _ => CliError::file(format!("{file}: {error}")),
        };
        let mut columns: Vec<String> = reader.headers().map_err(fault)?.iter().map(str::to_owned).collect();
        let at = match truth {
            Some(name) => Some(
                columns
                    .iter()
                    .position(|column| column == name)
                    .ok_or_else(|| CliError::usage(messages::no_column(name, shorten(&columns))))?,
            ),
            None => None,
        };
        if let Some(at) = at {
            columns.remove(at);
        }
        let mut truths = Vec::new();
        let mut rows = Vec::new();
        for record in reader.records() {
            let mut row: Vec<String> = record.map_err(fault)?.iter().map(str::to_owned).collect();
            if let Some(at) = at {
                truths.push(row.remove(at));
            }
            rows.push(row);
        }
        Ok(Self { file: file.to_owned(), rows: Rows::Table { columns, rows }, truth: at.map(|_| truths) })
    }

    /// An array of rows, `{"rows": [...]}`, or a row on each line.
    fn of_json(text: &str, file: &str, truth: Option<&str>) -> Result<Self, CliError> {
        let mut values: Vec<Value> = Vec::new();
        for (index, value) in serde_json::Deserializer::from_str(text).into_iter().enumerate() {
            values.push(value.map_err(|error| CliError::usage(messages::bad_row(file, index + 1, error)))?);
        }
        let mut rows = match values.as_mut_slice() {
            // One array of arrays or objects is the table; one array of numbers is a row.
            [Value::Array(rows)] if rows.iter().all(|row| row.is_array() || row.is_object()) => std::mem::take(rows),
            [Value::Object(fields)] if fields.len() == 1 && fields.get("rows").is_some_and(Value::is_array) => {
                match fields.remove("rows") {
                    Some(Value::Array(rows)) => rows,
                    _ => Vec::new(),
                }
            }
            _ => values,
        };
        let mut truths = Vec::new();
        if let Some(name) = truth {
            for (index, row) in rows.iter_mut().enumerate() {
                let known =
                    row.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
                let value = row.as_object_mut().and_then(|fields| fields.shift_remove(name));
                let value = value.ok_or_else(|| {
                    CliError::usage(messages::bad_row(file, index + 1, messages::no_column(name, shorten(&known))))
                })?;
                truths.push(plain(&value));
            }
        }
        Ok(Self { file: file.to_owned(), rows: Rows::Json(rows), truth: truth.map(|_| truths) })
    }

    /// In the form that the model takes.
    pub fn encode(&self, signature: &Signature, model: &str) -> Result<Encoded, CliError> {
        let (columns, rows) = match &self.rows {
            // JSON says itself what it is; the service checks it.
            Rows::Json(rows) => return Ok(Encoded { rows: rows.clone(), left_out: Vec::new() }),
            Rows::Table { columns, rows } => (columns, rows),
        };
        match signature.inputs.as_slice() {
            [input] => {
                if let Some(wanted) = width(input).filter(|wanted| *wanted != columns.len()) {
                    let message = messages::wrong_width(columns.len(), model, input.describe(), wanted);
                    let next = if wanted + 1 == columns.len() && self.truth.is_none() {
                        messages::wrong_width_next()
                    } else {
                        messages::check_columns(&self.file, model)
                    };
                    return Err(CliError::input(message, next));
                }
                let list = |row: &Vec<String>| -> Result<Value, String> {
                    row.iter()
                        .zip(columns)
                        .map(|(cell, column)| value(cell, column, input))
                        .collect::<Result<_, _>>()
                        .map(Value::Array)
                };
                Ok(Encoded { rows: self.each(rows, list)?, left_out: Vec::new() })
            }
            inputs => {
                let mut places = Vec::new();
                for input in inputs {
                    let at = columns.iter().position(|column| *column == input.name);
                    places.push((
                        input,
                        at.ok_or_else(|| CliError::usage(messages::no_column(&input.name, shorten(columns))))?,
                    ));
                }
                let object = |row: &Vec<String>| -> Result<Value, String> {
                    let fields = places
                        .iter()
                        .map(|(input, at)| Ok((input.name.clone(), value(&row[*at], &columns[*at], input)?)));
                    Ok(Value::Object(fields.collect::<Result<Map<_, _>, String>>()?))
                };
                let left_out = columns
                    .iter()
                    .filter(|column| !inputs.iter().any(|input| input.name == **column))
                    .cloned()
                    .collect();
                Ok(Encoded { rows: self.each(rows, object)?, left_out })
            }
        }
    }

    fn each(
        &self,
        rows: &[Vec<String>],
        encode: impl Fn(&Vec<String>) -> Result<Value, String>,
    ) -> Result<Vec<Value>, CliError> {
        let fault = |index: usize, why: String| CliError::usage(messages::bad_row(&self.file, index + 1, why));
        rows.iter().enumerate().map(|(index, row)| encode(row).map_err(|why| fault(index, why))).collect()
    }
}

/// How many values one row has, where the model says so.
fn width(input: &TensorSpec) -> Option<usize> {
    input.shape.iter().skip(1).try_fold(1_usize, |width, size| width.checked_mul(usize::try_from(*size).ok()?))
}

/// One cell as the type that is wanted. What is missing is null, which only floating-point inputs take.
fn value(cell: &str, column: &str, input: &TensorSpec) -> Result<Value, String> {
    let wrong = || {
        messages::not_number(
            format::clean(&cell.chars().take(40).collect::<String>()),
            format::clean(column),
            input.datatype.as_str(),
        )
    };
    match input.datatype {
        Datatype::Bytes => Ok(Value::String(cell.to_owned())),
        Datatype::Bool => match cell.to_lowercase().as_str() {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(wrong()),
        },
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => match cell.to_lowercase().as_str() {
            "" | "nan" | "na" | "null" => Ok(Value::Null),
            _ => match cell.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(number.into()),
                _ => Err(wrong()),
            },
        },
        _ => match (cell.parse::<i64>(), cell.parse::<u64>(), cell.parse::<f64>()) {
            (Ok(number), ..) => Ok(number.into()),
            (_, Ok(number), _) => Ok(number.into()),
            // `3.0` is how pandas writes a 3 of a column with gaps.
            (.., Ok(number)) if number.fract() == 0.0 && number.abs() < 9e15 => Ok((number as i64).into()),
            _ => Err(wrong()),
        },
    }
}

pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A list of names that is not longer than a line.
fn shorten(names: &[String]) -> String {
    let mut shown: Vec<String> = names.iter().take(8).map(|name| format::clean(name)).collect();
    if names.len() > shown.len() {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn input(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
        TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec(), map_keys: None }
    }

    fn signature(inputs: Vec<TensorSpec>) -> Signature {
        Signature { inputs, outputs: Vec::new() }
    }

    fn read(text: &str, truth: Option<&str>) -> Result<Input, String> {
        Input::of(text, "f", truth).map_err(|error| error.render())
    }

    fn encode(text: &str, truth: Option<&str>, inputs: Vec<TensorSpec>) -> Result<Encoded, String> {
        read(text, truth)?.encode(&signature(inputs), "m@1").map_err(|error| error.render())
    }

    #[test]
    fn one_input_takes_the_columns_in_their_order_without_the_truth() {
        let pixels = || vec![input("x", Datatype::Fp32, &[-1, 2])];
        let read_back = read("a,label,b\n1,cat,2.5\n,dog,-3\n", Some("label")).unwrap();
        assert_eq!(read_back.truth.as_deref(), Some(["cat".to_owned(), "dog".to_owned()].as_slice()));
        let encoded = encode("a,label,b\n1,cat,2.5\n,dog,-3\n", Some("label"), pixels()).unwrap();
        assert_eq!(encoded.rows, [json!([1.0, 2.5]), json!([null, -3.0])]);
        let error = encode("a,label,b\n1,2,3\n", None, pixels()).unwrap_err();
        assert!(error.contains("x FP32 [n,2]") && error.contains("--truth"), "{error}");
        let error = encode("a,b\n1,two\n", None, pixels()).unwrap_err();
        assert!(error.contains("two") && error.contains('b') && error.contains("FP32"), "{error}");
    }

    #[test]
    fn several_inputs_are_found_by_their_names() {
        let inputs = vec![
            input("age", Datatype::Int64, &[-1, 1]),
            input("name", Datatype::Bytes, &[-1, 1]),
            input("ok", Datatype::Bool, &[-1, 1]),
        ];
        let encoded = encode("id,name,ok,age\n7,lee,TRUE,31\n8,kim,0,4.0\n", None, inputs.clone()).unwrap();
        assert_eq!(
            encoded.rows,
            [json!({"age": 31, "name": "lee", "ok": true}), json!({"age": 4, "name": "kim", "ok": false})]
        );
        assert_eq!(encoded.left_out, ["id"]);
        assert!(encode("name,ok\nlee,1\n", None, inputs.clone()).unwrap_err().contains("age"));
        assert!(encode("name,ok,age\nlee,1,3.5\n", None, inputs).is_err());
    }

    #[test]
    fn json_comes_as_an_array_as_lines_or_as_a_request() {
        for text in [
            "[{\"a\":1,\"y\":2},{\"a\":3,\"y\":4}]",
            "{\"a\":1,\"y\":2}\n{\"a\":3,\"y\":4}\n",
            "{\"rows\":[{\"a\":1,\"y\":2},{\"a\":3,\"y\":4}]}",
        ] {
            let encoded = encode(text, Some("y"), vec![input("a", Datatype::Fp32, &[-1, 1])]).unwrap();
            assert_eq!(encoded.rows, [json!({"a": 1}), json!({"a": 3})], "{text}");
            assert_eq!(read(text, Some("y")).unwrap().truth.unwrap(), ["2", "4"]);
        }
        assert_eq!(read("[1,2,3]\n[4,5,6]\n", None).unwrap().len(), 2);
        assert_eq!(read("[1,2,3]", None).unwrap().len(), 1);
    }

    #[test]
    fn bad_files_are_told_with_their_row() {
        assert!(read("a,b\n", None).unwrap_err().contains('f'));
        assert!(read("", None).is_err());
        assert!(read("a,b\n1,2,3\n", None).is_err());
        assert!(read("a,b\n1,2\n", Some("label")).unwrap_err().contains("a, b"));
        assert!(read("{\"a\":1}\n{\"a\":", None).unwrap_err().contains('2'));
        assert!(read("[[1,2]]", Some("y")).is_err());
    }
}
