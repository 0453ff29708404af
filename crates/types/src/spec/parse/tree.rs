//! A document as a tree of marks: what stands where. It interprets nothing but structure; values are
//! read by their types.

use std::{collections::HashMap, ops::Range};

use serde_saphyr::granit_parser::{Event, Parser, Span, StructureStyle, options};

use super::error::{Mark, Source, SpecError};
use crate::problem::Code;

/// Deeper than any spec needs, and shallow enough to walk by recursion.
pub const DEEPEST: usize = 32;
/// Values in one document.
pub const MOST_NODES: usize = 50_000;

#[derive(Debug, Clone)]
pub struct Node {
    pub value: Value,
    range: Mark,
}

#[derive(Debug, Clone)]
pub enum Value {
    Scalar(String),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
    /// A `*name`: its value is marked where it is used.
    Alias,
}

/// A field's name; empty where it is not a plain value.
#[derive(Debug, Clone)]
pub struct Key {
    pub text: String,
    pub mark: Mark,
}

impl Node {
    /// What to point at: all of a value on one line, or the first name of a mapping.
    pub fn mark(&self) -> Mark {
        match &self.value {
            Value::Mapping(fields) => fields.first().map_or(self.range, |(key, _)| key.mark),
            Value::Sequence(items) => items.first().map_or(self.range, Node::mark),
            _ => self.range,
        }
    }

    pub fn get(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Mapping(fields) => fields.iter().find(|(key, _)| key.text == name).map(|(_, value)| value),
            Value::Sequence(items) => items.get(name.parse::<usize>().ok()?),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        if let Value::Scalar(text) = &self.value { Some(text) } else { None }
    }

    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.get(name))
    }

    /// The node at a path, or at as much of it as there is. A lone output stands for a list of one.
    pub fn nearest(&self, path: &[&str]) -> &Node {
        let mut node = self;
        for name in path {
            match node.get(name) {
                Some(inner) => node = inner,
                None if *name == "0" => {}
                None => break,
            }
        }
        node
    }

    pub fn key(&self, name: &str) -> Option<Mark> {
        match &self.value {
            Value::Mapping(fields) => fields.iter().find(|(key, _)| key.text == name).map(|(key, _)| key.mark),
            _ => None,
        }
    }

    /// The field whose name has this mark.
    pub fn named(&self, mark: Mark) -> Option<(&str, &Node)> {
        match &self.value {
            Value::Mapping(fields) => {
                fields.iter().find(|(key, _)| key.mark == mark).map(|(key, value)| (key.text.as_str(), value))
            }
            _ => None,
        }
    }

    /// The path to what stands at a byte, and its mark. On a name, the path is that of its mapping.
    pub fn find(&self, byte: usize) -> (Vec<String>, Mark) {
        let mut path = Vec::new();
        let mut node = self;
        loop {
            let inner = match &node.value {
                Value::Mapping(fields) => {
                    if let Some((key, _)) = fields.iter().find(|(key, _)| key.mark.holds(byte)) {
                        return (path, key.mark);
                    }
                    fields
                        .iter()
                        .find(|(_, value)| value.range.holds(byte))
                        .map(|(key, value)| (key.text.clone(), value))
                }
                Value::Sequence(items) => {
                    let found = items.iter().enumerate().find(|(_, item)| item.range.holds(byte));
                    found.map(|(index, item)| (index.to_string(), item))
                }
                _ => None,
            };
            match inner {
                Some((step, inner)) => {
                    path.push(step);
                    node = inner;
                }
                None => return (path, node.mark()),
            }
        }
    }

    /// A name that stands twice in one mapping, and the mark of its first.
    pub fn repeated_key(&self) -> Option<(&Key, Mark)> {
        match &self.value {
            Value::Mapping(fields) => {
                let mut seen = HashMap::new();
                for (key, value) in fields {
                    if !key.text.is_empty()
                        && let Some(first) = seen.insert(key.text.as_str(), key.mark)
                    {
                        return Some((key, first));
                    }
                    if let Some(repeated) = value.repeated_key() {
                        return Some(repeated);
                    }
                }
                None
            }
            Value::Sequence(items) => items.iter().find_map(Node::repeated_key),
            _ => None,
        }
    }
}

impl Mark {
    fn holds(self, byte: usize) -> bool {
        self.start <= byte && byte < self.end.max(self.start + 1)
    }
}

/// A collection that is not closed yet, and of a mapping the name whose value comes next.
struct Open {
    node: Node,
    key: Option<Key>,
    bracket: bool,
}

pub fn read(source: &Source, range: Range<usize>) -> Result<Node, Box<SpecError>> {
    let text = &source.text[range.clone()];
    let parser = Parser::new_from_str_with_options(
        text,
        options! {
            flow_nesting_limit: DEEPEST,
            block_nesting_limit: DEEPEST,
            simple_key_max_lookahead: 1024,
            emit_comments: false,
        },
    );
    let fault = |mark: Mark, message: String| Box::new(source.error(Code::SpecSyntax, mark, message));
    let place = |span: &Span| {
        let bytes = span.byte_range().unwrap_or(0..0);
        Mark::from(range.start + bytes.start..range.start + bytes.end)
    };
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    let mut nodes = 0;
    for next in parser {
        let (event, span) = next.map_err(|error| {
            let at = error.marker().byte_offset().unwrap_or(0).min(text.len());
            let bracket = open.iter().rfind(|open| open.bracket).map(|open| open.node.range.start);
            let (at, message) = plain_words(&error.info(), source, range.start, at, bracket);
            fault((range.start + at..range.start + at).into(), message)
        })?;
        let mark = place(&span);
        let bracket = matches!(
            event,
            Event::SequenceStart(StructureStyle::Flow, ..) | Event::MappingStart(StructureStyle::Flow, ..)
        );
        let value = match event {
            Event::Scalar(text, ..) => Value::Scalar(text.into_owned()),
            Event::Alias(_) => Value::Alias,
            Event::SequenceStart(..) => Value::Sequence(Vec::new()),
            Event::MappingStart(..) => Value::Mapping(Vec::new()),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(mut closed) = open.pop() {
                    closed.node.range.end = mark.end.max(closed.node.range.end);
                    attach(&mut open, &mut root, closed.node);
                }
                continue;
            }
            _ => continue,
        };
        nodes += 1;
        if nodes > MOST_NODES {
            return Err(fault(mark, format!("more than {MOST_NODES} values in one document")));
        }
        let node = Node { value, range: mark };
        match node.value {
            Value::Sequence(_) | Value::Mapping(_) if open.len() >= DEEPEST => {
                return Err(fault(mark, format!("nested deeper than {DEEPEST}")));
            }
            Value::Sequence(_) | Value::Mapping(_) => open.push(Open { node, key: None, bracket }),
            _ => attach(&mut open, &mut root, node),
        }
    }
    root.ok_or_else(|| fault(range.into(), "the document says nothing".to_owned()))
}

fn attach(open: &mut [Open], root: &mut Option<Node>, node: Node) {
    match open.last_mut() {
        None => {
            root.get_or_insert(node);
        }
        Some(Open { node: Node { value: Value::Sequence(items), .. }, .. }) => items.push(node),
        Some(Open { node: Node { value: Value::Mapping(fields), .. }, key, .. }) => match key.take() {
            Some(key) => fields.push((key, node)),
            None => {
                let mark = node.mark();
                let text = if let Value::Scalar(text) = node.value { text } else { String::new() };
                *key = Some(Key { text, mark });
            }
        },
        Some(_) => {}
    }
}

/// What the parser says, for somebody who does not know its grammar, and where.
fn plain_words(said: &str, source: &Source, start: usize, at: usize, bracket: Option<usize>) -> (usize, String) {
    let text = &source.text[start..];
    let line = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    // The parser may stop at the end of the line above the tab.
    let mut begin = line;
    for line in text.get(line..).unwrap_or_default().split_inclusive('\n').take(2) {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line[..indent].find('\t') {
            return (begin + tab, "a tab indents this line; YAML is indented with spaces".to_owned());
        }
        begin += line.len();
    }
    if let Some(bracket) = bracket {
        let (line, _) = source.position(bracket);
        let which = source.text.get(bracket..=bracket).unwrap_or("[");
        if said.contains("unclosed bracket") {
            return (at, format!("not valid YAML: the `{which}` on line {line} is not closed"));
        }
        return (at, format!("not valid YAML: {said}; is the `{which}` on line {line} closed?"));
    }
    let advice = if said.contains("mapping values are not allowed") {
        "a `:` where no field can begin; indent the line like its neighbours, or quote the text"
    } else if said.contains("unknown anchor") {
        "`*` refers to an anchor (`&name`) above, and there is none; quote it if it is text"
    } else if said.contains("unknown escape") {
        "double quotes do not know this escape; single quotes keep a backslash as it is"
    } else if said.contains("unexpected character") {
        "text cannot begin with this character; quote it"
    } else if said.contains("unclosed quote") {
        "this quote is not closed"
    } else {
        said
    };
    (at, format!("not valid YAML: {advice}"))
}
