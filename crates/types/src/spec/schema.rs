//! The JSON Schema of a spec, made from the types, and its fields as a person reads them.

use std::{borrow::Cow, fmt::Write as _};

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{DatasetSpec, EnvironmentSpec, JobSpec, Kind, ServiceSpec};

/// One schema of all kinds, draft 2020-12: editors complete from it.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let kinds: Vec<Value> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let schema = match kind {
                Kind::Dataset => DatasetSpec::json_schema(&mut generator),
                Kind::Environment => EnvironmentSpec::json_schema(&mut generator),
                Kind::Job => JobSpec::json_schema(&mut generator),
                Kind::Service => ServiceSpec::json_schema(&mut generator),
            };
            with_kind(kind, schema.to_value())
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Dure spec",
        "description": "One document; a file may hold several, with `---` between them.",
        "oneOf": kinds,
        "$defs": definitions(&mut generator),
    })
}

fn definitions(generator: &mut SchemaGenerator) -> Value {
    Value::Object(generator.take_definitions(true))
}

fn with_kind(kind: Kind, mut schema: Value) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("title".to_owned(), json!(kind.as_str()));
        let mut properties = Map::new();
        properties.insert("kind".to_owned(), json!({"const": kind.as_str()}));
        if let Some(Value::Object(fields)) = schema.remove("properties") {
            properties.extend(fields);
        }
        schema.insert("properties".to_owned(), Value::Object(properties));
        let mut required = vec![json!("kind")];
        if let Some(Value::Array(fields)) = schema.remove("required") {
            required.extend(fields);
        }
        schema.insert("required".to_owned(), Value::Array(required));
    }
    schema
}

/// The fields at a path (`job`, `job.resources`, `job.outputs.model.path`) as a small table; none
/// where there is no such field.
pub fn describe(path: &str) -> Option<String> {
    let document = schema();
    let mut steps = path.split('.');
    let kind = steps.next()?;
    let mut schema = document["oneOf"].as_array()?.iter().find(|schema| schema["title"] == kind)?;
    let mut required = true;
    for step in steps {
        let fields = fields_of(&document, schema)?;
        required = is_required(fields, step);
        schema = fields["properties"].get(step)?;
    }
    let name = path.rsplit('.').next().unwrap_or(path);
    match fields_of(&document, schema) {
        Some(fields) => Some(table(&document, path, schema, fields)),
        None => Some(render(&[row(&document, name, schema, required)])),
    }
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    // The types refer to each other without circles; the bound only makes that plain.
    for _ in 0..8 {
        match schema["$ref"].as_str().and_then(|reference| document.pointer(reference.strip_prefix('#')?)) {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

/// The schema with named fields behind a schema: itself, one of its choices, or a list's items.
fn fields_of<'a>(document: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    let schema = resolve(document, schema);
    if schema["properties"].is_object() {
        return Some(schema);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().find_map(|choice| fields_of(document, choice));
    }
    schema.get("items").and_then(|items| fields_of(document, items))
}

fn is_required(fields: &Value, name: &str) -> bool {
    fields["required"].as_array().is_some_and(|required| required.iter().any(|field| field == name))
}

struct Row<'a> {
    name: &'a str,
    kind: String,
    default: String,
    doc: Cow<'a, str>,
}

fn row<'a>(document: &'a Value, name: &'a str, schema: &'a Value, required: bool) -> Row<'a> {
    let default = match &schema["default"] {
        Value::Null if required => "required".to_owned(),
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Object(fields) if fields.is_empty() => "-".to_owned(),
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    };
    let doc = schema["description"].as_str().unwrap_or_default();
    Row {
        name,
        kind: kind_of(document, schema),
        default,
        doc: doc.split_whitespace().collect::<Vec<_>>().join(" ").into(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A type in the words of the vocabulary.
fn kind_of(document: &Value, schema: &Value) -> String {
    if let Some(constant) = schema["const"].as_str() {
        return constant.to_owned();
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let mut kinds: Vec<_> =
            choices.iter().filter(|choice| choice["type"] != "null").map(|choice| kind_of(document, choice)).collect();
        kinds.dedup();
        return kinds.join(" or ");
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return match name {
            "Name" => "name".to_owned(),
            "Reference" => "reference".to_owned(),
            "Duration" => "duration".to_owned(),
            "Cpu" => "cpu".to_owned(),
            "Memory" => "memory".to_owned(),
            _ if fields_of(document, schema).is_some() && resolve(document, schema)["anyOf"].is_null() => {
                "fields".to_owned()
            }
            _ => kind_of(document, resolve(document, schema)),
        };
    }
    let simple = |name: &str| match name {
        "string" => "text".to_owned(),
        "integer" => "whole number".to_owned(),
        "array" => format!("list of {}", kind_of(document, &schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("NAME: {}", kind_of(document, &schema["additionalProperties"]))
        }
        "object" if schema["patternProperties"].is_object() => {
            let values = schema["patternProperties"].as_object().and_then(|patterns| patterns.values().next());
            format!("NAME: {}", values.map_or_else(|| "any value".to_owned(), |values| kind_of(document, values)))
        }
        "object" if schema["additionalProperties"] == true => "NAME: any value".to_owned(),
        "object" => "fields".to_owned(),
        other => other.to_owned(),
    };
    match &schema["type"] {
        Value::String(name) => simple(name),
        Value::Array(names) => {
            let names: Vec<_> =
                names.iter().filter_map(Value::as_str).filter(|name| *name != "null").map(simple).collect();
            names.join(" or ")
        }
        _ => "any value".to_owned(),
    }
}

fn table(document: &Value, path: &str, schema: &Value, fields: &Value) -> String {
    let mut head = path.to_owned();
    for described in [schema, fields] {
        if let Some(doc) = described["description"].as_str() {
            head = format!("{path}: {}", doc.split_whitespace().collect::<Vec<_>>().join(" "));
            break;
        }
    }
    let rows: Vec<_> = fields["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, field)| row(document, name, field, is_required(fields, name)))
        .collect();
    format!("{head}\n\n{}", render(&rows))
}

fn render(rows: &[Row<'_>]) -> String {
    let width = |column: fn(&Row<'_>) -> usize, head: &str| rows.iter().map(column).max().unwrap_or(0).max(head.len());
    let name = width(|row| row.name.len(), "field");
    let kind = width(|row| row.kind.len(), "type");
    let default = width(|row| row.default.len(), "default");
    let mut text = format!("{:name$}  {:kind$}  {:default$}  what it is\n", "field", "type", "default");
    for row in rows {
        let line = format!("{:name$}  {:kind$}  {:default$}  {}", row.name, row.kind, row.default, row.doc);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
