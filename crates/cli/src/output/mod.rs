//! What goes to standard output: tables and views for people, JSON and YAML for programs.
//!
//! A closed pipe is no fault of anybody's: it comes back as an error that ends the program quietly.

pub mod format;
pub mod sparkline;
pub mod style;
pub mod table;
pub mod view;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

pub use self::{
    table::{Cell, Table},
    view::View,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

/// How wide the terminal is; none where standard output is no terminal.
pub fn width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

pub fn text(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

pub fn line(line: impl AsRef<str>) -> io::Result<()> {
    text(&format!("{}\n", line.as_ref()))
}

/// Bytes as they are: a program's own output, with its own colours.
pub fn raw(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Exactly what the API answered, in one of the two forms for programs.
pub fn data<T: Serialize>(value: &T, format: Format) -> io::Result<()> {
    let mut written = match format {
        Format::Yaml => serde_saphyr::to_string(value).map_err(io::Error::other)?,
        Format::Json | Format::Table => serde_json::to_string_pretty(value)?,
    };
    if !written.ends_with('\n') {
        written.push('\n');
    }
    raw(written.as_bytes())
}

#[cfg(test)]
mod tests {
    /// YAML is read by programs too, so what goes in must come out, ids that look like numbers included.
    #[test]
    fn yaml_says_the_same_as_json() {
        let value = serde_json::json!({"id": "00123456789012345678", "e": "1e10", "no": "no", "n": [1, 2.5, null, true], "t": "a: b\n#c"});
        let yaml = serde_saphyr::to_string(&value).unwrap();
        let back: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(back, value, "{yaml}");
    }
}
