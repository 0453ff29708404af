//! `dure schema`: the JSON Schema of the spec; of a part of it, its fields.

use dure_types::spec::{
    Kind,
    schema::{describe, schema},
};
use serde_json::Value;

use crate::{args, context::Context, exit::CliError, messages, output, output::Format};

pub fn run(context: &Context, arguments: args::Schema) -> Result<(), CliError> {
    let whole = schema();
    let Some(path) = arguments.path else {
        return Ok(output::data(&whole, context.format())?);
    };
    let schema = part(&whole, &path)?;
    match context.format() {
        Format::Table => Ok(output::text(&describe(&path).unwrap_or_default())?),
        format => Ok(output::data(&schema, format)?),
    }
}

/// The schema at `job.resources`, with the definitions that it refers to.
fn part(whole: &Value, path: &str) -> Result<Value, CliError> {
    let mut words = path.split('.');
    let kind = words.next().unwrap_or_default();
    let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    let unknown = |at: &str, known: &[&str]| CliError::usage(messages::no_schema(at, known.join(", ")));
    let mut at = kind.to_owned();
    let mut schema = of_kind(whole, kind).ok_or_else(|| unknown(kind, &kinds))?;
    for word in words {
        at = format!("{at}.{word}");
        let fields = fields(whole, schema);
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        schema = fields
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, field)| *field)
            .ok_or_else(|| unknown(&at, &names))?;
    }
    let mut schema = schema.clone();
    // What it refers to comes along; a lone reference is shown as what it stands for.
    if let Some(target) = schema.get("$ref").and_then(|target| resolve(whole, target)) {
        let described = schema.get("description").cloned();
        schema = target.clone();
        if let (Some(described), Some(object)) = (described, schema.as_object_mut()) {
            object.insert("description".to_owned(), described);
        }
    }
    let definitions = definitions(whole, &schema);
    if let (false, Some(object)) = (definitions.is_empty(), schema.as_object_mut()) {
        object.insert("$defs".to_owned(), Value::Object(definitions));
    }
    Ok(schema)
}

/// The one of the documents whose `kind` is this.
fn of_kind<'s>(whole: &'s Value, kind: &str) -> Option<&'s Value> {
    let documents = whole.get("oneOf").or_else(|| whole.get("anyOf"))?.as_array()?;
    documents.iter().map(|document| follow(whole, document)).find(|document| {
        let said = document.pointer("/properties/kind");
        said.and_then(|said| said.get("const").or_else(|| said.pointer("/enum/0"))).and_then(Value::as_str)
            == Some(kind)
    })
}

fn follow<'s>(whole: &'s Value, schema: &'s Value) -> &'s Value {
    schema.get("$ref").and_then(|target| resolve(whole, target)).unwrap_or(schema)
}

fn resolve<'s>(whole: &'s Value, target: &Value) -> Option<&'s Value> {
    whole.pointer(target.as_str()?.strip_prefix('#')?)
}

/// The fields of an object, of every form that it may have.
fn fields<'s>(whole: &'s Value, schema: &'s Value) -> Vec<(&'s str, &'s Value)> {
    let schema = follow(whole, schema);
    let mut found: Vec<(&str, &Value)> = Vec::new();
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        found.extend(properties.iter().map(|(name, field)| (name.as_str(), field)));
    }
    for form in ["anyOf", "oneOf", "allOf"] {
        for one in schema.get(form).and_then(Value::as_array).into_iter().flatten() {
            found.extend(fields(whole, one));
        }
    }
    found
}

/// The definitions that a schema refers to, and those that they refer to.
fn definitions(whole: &Value, schema: &Value) -> serde_json::Map<String, Value> {
    let mut found = serde_json::Map::new();
    let mut open = vec![schema.clone()];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(name) =
                    fields.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix("#/$defs/"))
                    && !found.contains_key(name)
                    && let Some(definition) = whole.pointer(&format!("/$defs/{name}"))
                {
                    found.insert(name.to_owned(), definition.clone());
                    open.push(definition.clone());
                }
                open.extend(fields.into_values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_by_its_path_and_stands_alone() {
        let whole = schema();
        for kind in Kind::ALL {
            let schema = part(&whole, kind.as_str()).map_err(|error| error.render()).unwrap();
            assert!(schema.pointer("/properties/name").is_some(), "{}", kind.as_str());
        }
        let resources = part(&whole, "job.resources").map_err(|error| error.render()).unwrap();
        assert!(resources.pointer("/properties/memory").is_some(), "{resources}");
        for target in resources.to_string().split("#/$defs/").skip(1) {
            let name = target.split('"').next().unwrap();
            assert!(resources.pointer(&format!("/$defs/{name}")).is_some(), "{name}");
        }
    }

    #[test]
    fn an_unknown_part_names_those_that_there_are() {
        let whole = schema();
        let error = part(&whole, "job.resources.memmory").map(|_| ()).unwrap_err();
        assert!(error.render().contains("memory"), "{}", error.render());
        assert!(part(&whole, "cluster").map(|_| ()).unwrap_err().render().contains("dataset"));
    }
}
