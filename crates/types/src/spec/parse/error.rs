//! A fault with its place, and how it is shown.

use std::{fmt, ops::Range};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::problem::Code;

/// One fault of a spec file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    pub code: Code,
    pub message: String,
    pub file: String,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// How many characters are marked.
    pub length: u32,
    /// The line, or of a very long one the part around the mark.
    pub source_line: String,
    /// Where in `source_line` the mark begins, in characters from 0.
    pub mark: u32,
    /// What was perhaps meant.
    pub suggestion: Option<String>,
    /// What to look at next.
    pub hint: Option<String>,
}

impl SpecError {
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(super) fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }

    /// `file:line:column`
    pub fn place(&self) -> String {
        format!("{}:{}:{}", self.file, self.line, self.column)
    }
}

impl std::error::Error for SpecError {}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}: {}", self.place(), self.message)?;
        if !self.source_line.is_empty() {
            let before: String = self.source_line.chars().take(self.mark as usize).collect();
            let marked: String = self.source_line.chars().skip(self.mark as usize).take(self.length as usize).collect();
            let carets = "^".repeat(marked.width().max(1));
            writeln!(f, "{:>5} | {}", self.line, self.source_line)?;
            write!(f, "      | {}{carets}", " ".repeat(before.width()))?;
            if let Some(suggestion) = &self.suggestion {
                write!(f, " did you mean `{suggestion}`?")?;
            }
            writeln!(f)?;
        }
        match &self.hint {
            Some(hint) => write!(f, "  {hint}   ({})", self.code.as_str()),
            None => write!(f, "  ({})", self.code.as_str()),
        }
    }
}

/// The bytes of the file that a fault points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub start: usize,
    pub end: usize,
}

impl From<Range<usize>> for Mark {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// A file's text with its lines found.
#[derive(Debug)]
pub struct Source {
    file: String,
    pub text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

/// More of a line than this is cut around the mark.
const WIDEST: usize = 100;

impl Source {
    pub fn new(file: &str, text: &str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: visible(file), text: text.to_owned(), lines }
    }

    fn line_of(&self, byte: usize) -> usize {
        self.lines.partition_point(|start| *start <= byte).saturating_sub(1)
    }

    fn line(&self, index: usize) -> Range<usize> {
        let start = self.lines[index];
        let end = self.lines.get(index + 1).map_or(self.text.len(), |next| next - 1);
        start..start + self.text[start..end].trim_end_matches('\r').len()
    }

    /// The nearest boundary of a character at or before a byte.
    fn boundary(&self, byte: usize) -> usize {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        byte
    }

    /// Line and column in characters, both from 1.
    pub fn position(&self, byte: usize) -> (u32, u32) {
        let byte = self.boundary(byte);
        let line = self.line_of(byte);
        let column = self.text[self.lines[line]..byte].chars().count() + 1;
        (u32::try_from(line + 1).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }

    pub fn error(&self, code: Code, mark: Mark, message: impl Into<String>) -> SpecError {
        // The end of the file is shown on the last line that says something.
        let start = match self.text.trim_end().len() {
            end if mark.start > end => end,
            _ => mark.start,
        };
        let start = self.boundary(start);
        let (line, column) = self.position(start);
        let range = self.line(line as usize - 1);
        let start = start.min(range.end);
        let end = self.boundary(mark.end.clamp(start, range.end));
        let length = self.text[start..end].chars().count().max(1);
        let (source_line, at) = cut(&self.text[range.clone()], column as usize - 1, length);
        SpecError {
            code,
            message: visible(&message.into()),
            file: self.file.clone(),
            line,
            column,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            source_line: visible(&source_line),
            mark: u32::try_from(at).unwrap_or(u32::MAX),
            suggestion: None,
            hint: None,
        }
    }
}

/// The part of a line that is shown, and where in it the mark begins.
fn cut(line: &str, at: usize, length: usize) -> (String, usize) {
    if line.chars().count() <= WIDEST {
        return (line.to_owned(), at);
    }
    let from = at.saturating_sub(WIDEST / 2);
    let to = (at + length.min(WIDEST / 2)).max(from + WIDEST);
    let mut shown: String = line.chars().skip(from).take(to - from).collect();
    if line.chars().count() > to {
        shown.push('…');
    }
    if from == 0 { (shown, at) } else { (format!("…{shown}"), at - from + 1) }
}

/// Each control character becomes one space: text of a file never steers the terminal, and a mark
/// below it stays in its place.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c.width() {
            Some(_) if !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => c,
            _ => ' ',
        })
        .collect()
}

/// The name that was perhaps meant.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let word = word.to_lowercase();
    let most = (word.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&word, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= most || (word.len() > 2 && name.starts_with(&word)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.to_owned())
}

/// At most this much of what somebody wrote is repeated in a message.
pub fn short(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
