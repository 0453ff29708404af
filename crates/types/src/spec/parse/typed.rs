//! A document into the type of its kind, and the parser's faults into sentences.

use std::{fmt, marker::PhantomData, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::{Error, MessageFormatter, Options, budget, options};

use super::{
    super::{Kind, Spec},
    error::{Mark, Source, SpecError, nearest, short},
    tree::{DEEPEST, MOST_NODES, Node, Value},
};
use crate::problem::Code;

pub fn read(source: &Source, range: Range<usize>, kind: Kind, root: &Node) -> Result<Spec, Box<SpecError>> {
    let text = &source.text[range.clone()];
    let spec = match kind {
        Kind::Dataset => document(text).map(Spec::Dataset),
        Kind::Environment => document(text).map(Spec::Environment),
        Kind::Job => document(text).map(Spec::Job),
        Kind::Service => document(text).map(Spec::Service),
    };
    spec.map_err(|error| Box::new(explain(source, range.start, kind, root, &error)))
}

fn document<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_saphyr::from_str_with_options(text, limits()).map(|WithoutKind(spec)| spec)
}

/// An alias may stand for a value, but never multiply into more than a file could say itself.
fn limits() -> Options {
    options! {
        budget: budget! {
            max_depth: DEEPEST,
            max_nodes: MOST_NODES,
            max_documents: 1,
            max_aliases: 1000,
            max_anchors: 1000,
            max_merge_keys: 1000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 1000,
        },
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// The types know no `kind`: it says which of them is meant.
struct WithoutKind<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for WithoutKind<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("fields with values")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(SkipKind(map)))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(WithoutKind)
    }
}

struct SkipKind<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for SkipKind<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let mut seed = Some(seed);
        while let Some(key) = self.0.next_key_seed(NotKind(&mut seed))? {
            match key {
                Some(key) => return Ok(Some(key)),
                None => self.0.next_value::<serde::de::IgnoredAny>().map(drop)?,
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// Reads a name inside the parser's own call, so that a fault keeps the name's place.
struct NotKind<'a, K>(&'a mut Option<K>);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for NotKind<'_, K> {
    type Value = Option<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let key = String::deserialize(deserializer)?;
        match self.0.take_if(|_| key != "kind") {
            None => Ok(None),
            Some(seed) => seed.deserialize(key.into_deserializer()).map(Some),
        }
    }
}

/// Where in the file the fault is, of which field, and in whose words.
fn explain(source: &Source, offset: usize, kind: Kind, root: &Node, error: &Error) -> SpecError {
    let mut inner = error;
    // At an alias the fault is shown where the alias stands, in the words of what it stands for.
    while let Error::AliasError { error, .. } | Error::WithSnippet { error, .. } = inner {
        inner = error;
    }
    let location = error.location().or_else(|| inner.location());
    let byte = location.and_then(|location| location.span().byte_offset()).and_then(|byte| usize::try_from(byte).ok());
    let (mut path, mut mark) = match byte {
        Some(byte) => root.find(offset + byte),
        None => (Vec::new(), root.mark()),
    };
    // A value of the wrong type may be blamed on the name before it.
    let mut wants_one = false;
    if matches!(inner, Error::SerdeInvalidType { .. } | Error::Unexpected { .. })
        && let Some((name, value)) = node(root, &path).named(mark)
    {
        // Where one value is wanted and one stands after the name, the fault is that there are names at all.
        wants_one = matches!((inner, &value.value), (Error::Unexpected { expected, .. }, Value::Scalar(_))
            if plain(expected) == plain("scalar"));
        if !wants_one {
            mark = value.mark();
            path.push(name.to_owned());
        }
    }
    let node = node(root, &path);
    let names: Vec<&str> = path.iter().map(String::as_str).filter(|step| !is_index(step)).collect();
    let at = |code: Code, mark: Mark, message: String| source.error(code, mark, message).hint(hint(kind, &names));
    let place = if names.is_empty() { kind.as_str().to_owned() } else { names.join(".") };
    let expected = |what: &str| {
        let what = if wants_one { "one value" } else { plain(what) };
        let (found, written) = match &node.value {
            Value::Scalar(text) => (format!("`{}`", short(text)), text.as_str()),
            Value::Sequence(_) => ("a list".to_owned(), ""),
            Value::Mapping(_) => ("fields".to_owned(), ""),
            Value::Alias => ("what the alias stands for".to_owned(), ""),
        };
        let fault = at(Code::SpecValue, mark, format!("{place}: expected {what}, found {found}"));
        fault.suggest((what == "a list" && !written.is_empty()).then(|| format!("[{}]", short(written))))
    };
    match inner {
        Error::SerdeUnknownField { field, expected, .. } => {
            let fault = at(Code::SpecField, mark, format!("unknown field `{}` in {place}", short(field)));
            let elsewhere = (expected.contains(&"resources") && ["cpu", "memory", "gpu"].contains(&field.as_str()))
                .then(|| format!("resources: {{{field}: ...}}"));
            fault.suggest(elsewhere.or_else(|| nearest(field, expected.iter().copied())))
        }
        Error::SerdeMissingField { field, .. } => {
            at(Code::SpecMissing, node.mark(), format!("missing field `{field}` in {place}"))
        }
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map(|key| format!(" `{}`", short(key))).unwrap_or_default();
            at(Code::SpecDuplicate, mark, format!("the name{key} stands here twice"))
        }
        Error::NullIntoString { .. } => at(Code::SpecValue, mark, format!("{place}: nothing stands here")),
        Error::SerdeInvalidType { expected: what, .. } | Error::SerdeInvalidValue { expected: what, .. } => {
            expected(what)
        }
        Error::InvalidScalar { ty: what, .. } | Error::Unexpected { expected: what, .. } => expected(what),
        Error::UnsupportedTag { tag, .. } => {
            at(Code::SpecSyntax, mark, format!("the tag `{}` means nothing here", short(tag)))
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            at(Code::SpecSyntax, mark, "its aliases or nesting make it larger than a spec may be".to_owned())
        }
        Error::Message { msg, .. } | Error::HookError { msg, .. } => {
            let fault = at(Code::SpecValue, mark, msg.clone());
            let quoted = names == ["python"] || names == ["environment", "python"];
            let written = source.text.get(mark.start..mark.end).unwrap_or_default();
            let suggestion = (quoted && !written.is_empty()).then(|| format!("\"{written}\""));
            fault.suggest(suggestion)
        }
        other => {
            at(Code::SpecValue, mark, format!("{place}: {}", serde_saphyr::UserMessageFormatter.format_message(other)))
        }
    }
}

fn node<'a>(root: &'a Node, path: &[String]) -> &'a Node {
    root.nearest(&path.iter().map(String::as_str).collect::<Vec<_>>())
}

fn is_index(step: &str) -> bool {
    step.bytes().all(|b| b.is_ascii_digit())
}

/// `fields: dure schema job.resources`
pub fn hint(kind: Kind, names: &[&str]) -> String {
    let mut path = kind.as_str().to_owned();
    // Below these, names are the writer's own.
    for name in names.iter().filter(|name| !is_index(name)).take(3) {
        path.push('.');
        path.push_str(name);
        if matches!(*name, "data" | "parameters" | "env") {
            break;
        }
    }
    format!("fields: dure schema {path}")
}

/// serde's words for types into those of a file.
fn plain(words: &str) -> &str {
    match words {
        "map" | "mapping" | "mapping start" | "a map" => "fields with values",
        "sequence" | "sequence start" | "a sequence" => "a list",
        "a string" | "string scalar" | "scalar" | "string" => "text",
        "u32" | "u64" | "i64" | "i128" | "u128" | "integer" => "a whole number",
        words if words.starts_with("struct ") => "fields with values",
        other => other,
    }
}
