//! Aligned keys and values, for one thing: what `dure show` prints.

use unicode_width::UnicodeWidthStr;

use super::{format, style, table::cut};

#[derive(Debug, Default)]
pub struct View {
    rows: Vec<(String, String)>,
}

impl View {
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is shown of what is empty.
    pub fn row(&mut self, key: impl Into<String>, value: impl AsRef<str>) {
        let value = format::clean(value.as_ref());
        if !value.trim().is_empty() {
            self.rows.push((key.into(), value));
        }
    }

    pub fn maybe(&mut self, key: impl Into<String>, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.row(key, value);
        }
    }

    /// Several lines under one key.
    pub fn lines<T: AsRef<str>>(&mut self, key: impl Into<String>, lines: impl IntoIterator<Item = T>) {
        let mut key = key.into();
        for line in lines {
            self.row(std::mem::take(&mut key), line);
        }
    }

    pub fn render(&self, width: Option<usize>) -> String {
        let widest = self.rows.iter().map(|(key, _)| key.width()).max().unwrap_or(0);
        let mut text = String::new();
        for (key, value) in &self.rows {
            let shown = match width {
                Some(width) => cut(value, width.saturating_sub(widest + 3)),
                None => value.clone(),
            };
            let fill = " ".repeat(widest - key.width() + 3);
            text.push_str(&format!("{0}{key}{0:#}{fill}{shown}\n", style::DIM));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_under_one_another() {
        let mut view = View::new();
        view.row("run", "7f3a");
        view.maybe("node", None::<&str>);
        view.lines("이유", ["one", "two"]);
        let text = view.render(None);
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), "run    7f3a\n이유   one\n       two\n");
    }
}
