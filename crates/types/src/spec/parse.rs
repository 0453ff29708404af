//! Reads a file of specs and keeps the place of every fault.
//!
//! Two steps, so that every fault has its line and column in the whole file: the file is split into
//! its documents, and each is read twice, once as a tree of marks (what stands where) and once, by
//! its `kind`, into its type. What the types alone cannot say is checked last. Whether the files that
//! a spec names exist is the caller's to find out: there is no IO here.

mod check;
mod document;
mod error;
mod parameters;
mod tree;
mod typed;

use std::{collections::HashMap, sync::Arc};

use self::{
    error::Source,
    tree::{Node, Value},
};
pub use self::{
    error::{SpecError, nearest},
    parameters::expand_parameters,
};
use super::{Kind, Spec};
use crate::problem::Code;

/// A file larger than this is not a spec.
pub const LARGEST_FILE: usize = 1 << 20;
/// Documents in one file.
const MOST_DOCUMENTS: usize = 1000;

/// A spec and where it stood.
#[derive(Debug, Clone)]
pub struct Located {
    pub spec: Spec,
    /// The line of the document's first field, from 1.
    pub line: u32,
    source: Arc<Source>,
    root: Node,
}

impl Located {
    /// Line and column of a field's value: `["environment", "requirements"]`, `["outputs", "model", "0", "path"]`.
    pub fn position(&self, path: &[&str]) -> Option<(u32, u32)> {
        self.root.at(path).map(|node| self.source.position(node.mark().start))
    }

    /// A fault at a field (or at what of its path there is), for what only the caller can find out.
    pub fn error(&self, code: Code, path: &[&str], message: impl Into<String>) -> SpecError {
        self.source.error(code, self.root.nearest(path).mark(), message)
    }
}

/// Every document of a file, or the first fault of each that has one.
pub fn parse(text: &str, file: &str) -> Result<Vec<Located>, Vec<SpecError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > LARGEST_FILE {
        let source = Source::new(file, "");
        let message = format!("the file is larger than {} KiB; is it a spec?", LARGEST_FILE >> 10);
        return Err(vec![source.error(Code::SpecSyntax, (0..0).into(), message)]);
    }
    let source = Arc::new(Source::new(file, text));
    let documents = document::split(text);
    if documents.is_empty() {
        let fault = source.error(Code::SpecSyntax, (0..0).into(), "the file says nothing");
        return Err(vec![fault.hint("it needs at least a kind and a name: dure schema")]);
    }
    if documents.len() > MOST_DOCUMENTS {
        let message = format!("more than {MOST_DOCUMENTS} documents in one file");
        return Err(vec![source.error(Code::SpecSyntax, documents[MOST_DOCUMENTS].clone().into(), message)]);
    }
    let mut specs: Vec<Located> = Vec::new();
    let mut faults = Vec::new();
    let mut seen = HashMap::new();
    for range in documents {
        match document(&source, range) {
            Ok(located) => {
                let key = (located.spec.kind(), located.spec.name().clone());
                match seen.get(&key) {
                    None => {
                        seen.insert(key, located.line);
                        specs.push(located);
                    }
                    Some(line) => {
                        let message =
                            format!("{} `{}` stands in the file twice, first on line {line}", key.0.as_str(), key.1);
                        faults.push(located.error(Code::SpecDuplicate, &["name"], message));
                    }
                }
            }
            Err(fault) => faults.push(*fault),
        }
    }
    if faults.is_empty() { Ok(specs) } else { Err(faults) }
}

fn document(source: &Arc<Source>, range: std::ops::Range<usize>) -> Result<Located, Box<SpecError>> {
    let root = tree::read(source, range.clone())?;
    let kind = kind(source, &root)?;
    if let Some((key, first)) = root.repeated_key() {
        let (line, _) = source.position(first.start);
        let message = format!("`{}` stands here twice, first on line {line}", key.text);
        return Err(Box::new(source.error(Code::SpecDuplicate, key.mark, message)));
    }
    let spec = typed::read(source, range, kind, &root)?;
    let (line, _) = source.position(root.mark().start);
    let located = Located { spec, line, source: Arc::clone(source), root };
    match check::first_fault(&located) {
        None => Ok(located),
        Some(fault) => Err(Box::new(fault)),
    }
}

fn kind(source: &Source, root: &Node) -> Result<Kind, Box<SpecError>> {
    let kinds = Kind::ALL.map(Kind::as_str);
    let hint = format!("kinds: {}", kinds.join(", "));
    if !matches!(root.value, Value::Mapping(_)) {
        let fault =
            source.error(Code::SpecSyntax, root.mark(), "a document is fields with values, such as `kind: job`");
        return Err(Box::new(fault.hint(hint)));
    }
    let Some(node) = root.get("kind") else {
        let fault = source.error(Code::SpecMissing, root.mark(), "missing field `kind`");
        return Err(Box::new(fault.hint(hint)));
    };
    let mark = node.mark();
    let Some(text) = node.text().filter(|_| mark.start < mark.end) else {
        let fault = source.error(Code::SpecKind, mark, "`kind` is one word");
        return Err(Box::new(fault.hint(hint)));
    };
    Kind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
        let fault = source.error(Code::SpecKind, mark, format!("unknown kind `{}`", error::short(text)));
        Box::new(fault.suggest(nearest(text, kinds)).hint(hint))
    })
}
