//! `POST /predict`: rows in, rows out, for people and for tables.
//!
//! `{"rows": [[...], ...]}` where the model has one input, or several that take one value each (by their
//! order); `{"rows": [{input: value}, ...]}` by name. Columns of a table are never matched to the columns of
//! a tensor by guess: a model whose one input has 64 columns does not know what they were called.

use std::fmt;

use dure_types::model::{Signature, TensorSpec};
use ort::session::SessionInputValue;
use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::SeqAccessDeserializer,
};

use crate::{
    answer::{Output, json, list},
    error::Refusal,
    infer::Text,
    tensor::{Buffer, Shown, Sizes, check_shape, shape_text},
};

/// Rows that fit the model.
pub(crate) struct Rows {
    pub count: usize,
    /// In the order of the signature.
    pub inputs: Vec<SessionInputValue<'static>>,
}

struct Column<'s> {
    spec: &'s TensorSpec,
    buffer: Buffer,
    /// Of one row.
    sizes: Sizes,
    /// How many rows have a value.
    filled: usize,
}

struct Table<'s> {
    columns: Vec<Column<'s>>,
    rows: usize,
}

pub(crate) fn read(body: &[u8], signature: &Signature) -> Result<Rows, Refusal> {
    if let Some(spec) = signature.inputs.iter().find(|spec| spec.shape.is_empty()) {
        return Err(Refusal::input(format!("input {} has no rows (it is a single value)", spec.name))
            .next("POST /v2/models/NAME/infer takes every model"));
    }
    let columns = signature
        .inputs
        .iter()
        .map(|spec| Column { spec, buffer: Buffer::new(spec.datatype), sizes: Sizes::default(), filled: 0 })
        .collect();
    let mut table = Table { columns, rows: 0 };
    let mut json = serde_json::Deserializer::from_slice(body);
    json.deserialize_map(BodyVisitor { table: &mut table })?;
    json.end()?;
    let count = table.rows;
    let inputs = if count == 0 {
        Vec::new()
    } else {
        table.columns.into_iter().map(|column| column.finish(count)).collect::<Result<_, _>>()?
    };
    Ok(Rows { count, inputs })
}

/// How many values one row has, where the model says so.
fn width(spec: &TensorSpec) -> Option<usize> {
    spec.shape.iter().skip(1).try_fold(1usize, |width, size| width.checked_mul(usize::try_from(*size).ok()?))
}

impl Column<'_> {
    fn finish(self, rows: usize) -> Result<SessionInputValue<'static>, Refusal> {
        let Self { spec, buffer, sizes, .. } = self;
        let expected = spec.shape.get(1..).unwrap_or_default();
        let mut row: Vec<i64> = sizes.from(0).map(|size| size as i64).collect();
        if row.is_empty() && expected.iter().all(|size| *size == 1 || *size < 0) {
            // One value where a list of one is wanted.
            row = vec![1; expected.len()];
        } else if row.len() == 1 && expected.len() != 1 && width(spec).is_some_and(|width| width as i64 == row[0]) {
            // A flat list where nested ones are wanted; or [x] where x is.
            row = expected.to_vec();
        }
        let mut shape = vec![rows as i64];
        shape.append(&mut row);
        check_shape(spec, &shape)?;
        if buffer.len() as i64 != shape.iter().product::<i64>() {
            return Err(Refusal::input(format!("input {}: the rows have different numbers of values", spec.name)));
        }
        buffer.into_value(&shape).map_err(|error| Refusal::input(format!("input {}: {error}", spec.name)))
    }
}

impl Table<'_> {
    /// Reads the value of one column of the row that is being read.
    fn cell<'de, D: Deserializer<'de>>(&mut self, index: usize, json: D) -> Result<(), D::Error> {
        let row = self.rows;
        let column = &mut self.columns[index];
        if column.filled > row {
            return Err(de::Error::custom(format_args!("row {row} has {} twice", Shown(&column.spec.name))));
        }
        column.filled += 1;
        let spec = column.spec;
        column.buffer.read(&mut column.sizes, 0, json).map_err(|error| {
            de::Error::custom(format_args!(
                "row {row}: input {} ({} {}): {error}",
                spec.name,
                spec.datatype.as_str(),
                shape_text(&spec.shape)
            ))
        })
    }

    fn names(&self) -> String {
        self.columns.iter().map(|column| column.spec.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Keys come in the same order in every row, so the next column is the first guess.
    fn find(&self, name: &str, guess: usize) -> Option<usize> {
        let is = |index: &usize| self.columns.get(*index).is_some_and(|column| column.spec.name == name);
        Some(guess).filter(is).or_else(|| (0..self.columns.len()).find(is))
    }

    fn unknown<E: de::Error>(&self, name: &str) -> E {
        let row = self.rows;
        match self.columns.as_slice() {
            [column] => {
                let values =
                    width(column.spec).map_or_else(|| "the values".to_owned(), |width| format!("{width} values"));
                E::custom(format_args!(
                    "row {row} has {}, but this model has the one input {} {}: give each row as a list of {values}, in the order of its training data",
                    Shown(name),
                    column.spec.name,
                    shape_text(&column.spec.shape)
                ))
            }
            _ => E::custom(format_args!(
                "row {row} has {}, which is no input; this model takes {}",
                Shown(name),
                self.names()
            )),
        }
    }
}

struct BodyVisitor<'t, 's> {
    table: &'t mut Table<'s>,
}

impl<'de> Visitor<'de> for BodyVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{\"rows\": [...]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "rows" if seen => return Err(de::Error::duplicate_field("rows")),
                "rows" => {
                    seen = true;
                    map.next_value_seed(RowsSeed { table: &mut *self.table })?;
                }
                other => {
                    return Err(de::Error::custom(format_args!(
                        "unknown field {}; the body is {{\"rows\": [...]}}",
                        Shown(other)
                    )));
                }
            }
        }
        if seen { Ok(()) } else { Err(de::Error::missing_field("rows")) }
    }
}

struct RowsSeed<'t, 's> {
    table: &'t mut Table<'s>,
}

impl<'de> DeserializeSeed<'de> for RowsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RowsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while array.next_element_seed(RowSeed { table: &mut *self.table })?.is_some() {
            self.table.rows += 1;
        }
        Ok(())
    }
}

struct RowSeed<'t, 's> {
    table: &'t mut Table<'s>,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

/// One value of a row, by the order of the inputs.
struct CellSeed<'t, 's> {
    table: &'t mut Table<'s>,
    index: usize,
}

impl<'de> DeserializeSeed<'de> for CellSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        self.table.cell(self.index, json)
    }
}

impl RowSeed<'_, '_> {
    /// A row that is a single value, for a model that takes one value.
    fn single<'de, E: de::Error>(self, json: impl Deserializer<'de, Error = E>) -> Result<(), E> {
        if self.table.columns.len() == 1 {
            self.table.cell(0, json)
        } else {
            Err(E::custom(format_args!(
                "row {} is a single value; this model takes {}",
                self.table.rows,
                self.table.names()
            )))
        }
    }
}

impl<'de> Visitor<'de> for RowSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row: a list of values, or an object of input names and values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let table = self.table;
        let (row, count) = (table.rows, table.columns.len());
        if count == 1 {
            return table.cell(0, SeqAccessDeserializer::new(array));
        }
        if let Some(column) = table.columns.iter().find(|column| width(column.spec) != Some(1)) {
            return Err(de::Error::custom(format_args!(
                "row {row} is a list, but input {} takes more than one value: give each row as an object of {}",
                column.spec.name,
                table.names()
            )));
        }
        let mut given = 0;
        while given < count && array.next_element_seed(CellSeed { table: &mut *table, index: given })?.is_some() {
            given += 1;
        }
        while array.next_element::<de::IgnoredAny>()?.is_some() {
            given += 1;
        }
        if given == count {
            return Ok(());
        }
        Err(de::Error::custom(format_args!(
            "row {row} has {given} values; this model takes {count}: {}",
            table.names()
        )))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let table = self.table;
        let mut given = 0;
        while let Some(Text(name)) = map.next_key()? {
            let index = table.find(&name, given).ok_or_else(|| table.unknown(&name))?;
            map.next_value_seed(CellSeed { table: &mut *table, index })?;
            given += 1;
        }
        if given == table.columns.len() {
            return Ok(());
        }
        let row = table.rows;
        let missing: Vec<_> = table
            .columns
            .iter()
            .filter(|column| column.filled <= row)
            .map(|column| column.spec.name.as_str())
            .collect();
        Err(de::Error::custom(format_args!("row {row} lacks {}", missing.join(", "))))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.single(value.into_deserializer())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.single(value.into_deserializer())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.single(value.into_deserializer())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.single(value.into_deserializer())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.single(().into_deserializer())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.single(value.into_deserializer())
    }
}

/// Rows of `{output: value}`.
pub(crate) fn write(name: &str, version: &str, rows: usize, outputs: &[Output<'_>]) -> Result<Vec<u8>, Refusal> {
    if let Some(output) = outputs.iter().find(|output| !output.has_rows(rows)) {
        return Err(Refusal::input(format!(
            "output {} has the shape {:?}, which is not one value for each of the {rows} rows",
            output.spec.name, output.shape
        ))
        .next("POST /v2/models/NAME/infer answers every shape"));
    }
    let mut buffer = Vec::with_capacity(512);
    buffer.extend_from_slice(b"{\"model_name\":");
    json(&mut buffer, name);
    buffer.extend_from_slice(b",\"model_version\":");
    json(&mut buffer, version);
    buffer.extend_from_slice(b",\"rows\":");
    list(&mut buffer, rows, |row, buffer| {
        for (index, output) in outputs.iter().enumerate() {
            buffer.push(if index == 0 { b'{' } else { b',' });
            json(buffer, &output.spec.name);
            buffer.push(b':');
            output.write_row(row, buffer);
        }
        buffer.push(b'}');
    });
    buffer.push(b'}');
    Ok(buffer)
}
