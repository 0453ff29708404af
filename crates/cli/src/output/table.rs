//! Tables that align by the width that a terminal gives each character, and never wrap.
//!
//! On a terminal long cells are cut in the middle with …, because names differ at their ends as often
//! as at their beginnings; piped, nothing is cut.

use std::fmt::Write as _;

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::format;

/// Between two columns.
const GAP: usize = 3;
const NARROW_GAP: usize = 2;
/// A column of such a width is cut only where nothing else helps.
const SHORT: usize = 10;
/// A column is cut down to this and no further; then the lines are cut at their ends.
const LEAST: usize = 6;

#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub fn styled(text: impl AsRef<str>, style: Style) -> Self {
        Self { text: format::clean(text.as_ref()), style }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

#[derive(Debug, Default)]
pub struct Table {
    headings: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new<T: Into<String>>(headings: impl IntoIterator<Item = T>) -> Self {
        let headings: Vec<String> = headings.into_iter().map(Into::into).collect();
        Self { right: vec![false; headings.len()], headings, rows: Vec::new() }
    }

    /// Rows without a line of headings.
    pub fn bare(columns: usize) -> Self {
        Self { headings: vec![String::new(); columns], right: vec![false; columns], rows: Vec::new() }
    }

    /// Numbers stand to the right.
    #[must_use]
    pub fn right(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        for column in columns {
            if let Some(right) = self.right.get_mut(column) {
                *right = true;
            }
        }
        self
    }

    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let mut row: Vec<Cell> = cells.into_iter().map(Into::into).collect();
        row.resize_with(self.headings.len(), Cell::default);
        self.rows.push(row);
    }

    /// The lines, each ended; not wider than `width` if there is one. A column that has nothing in it is
    /// left out.
    pub fn render(&self, width: Option<usize>) -> String {
        self.without_empty_columns().lines(width)
    }

    fn without_empty_columns(&self) -> Self {
        let is_kept =
            |column: &usize| self.rows.is_empty() || self.rows.iter().any(|row| !row[*column].text.is_empty());
        let kept: Vec<usize> = (0..self.headings.len()).filter(is_kept).collect();
        Self {
            headings: kept.iter().map(|column| self.headings[*column].clone()).collect(),
            right: kept.iter().map(|column| self.right[*column]).collect(),
            rows: self.rows.iter().map(|row| kept.iter().map(|column| row[*column].clone()).collect()).collect(),
        }
    }

    fn lines(&self, width: Option<usize>) -> String {
        let (widths, gap) = self.widths(width);
        let mut text = String::new();
        if self.headings.iter().any(|heading| !heading.is_empty()) {
            let style = super::style::HEADING;
            let row: Vec<Cell> = self.headings.iter().map(|heading| Cell { text: heading.clone(), style }).collect();
            self.line(&mut text, &row, (&widths, gap), width);
        }
        for row in &self.rows {
            self.line(&mut text, row, (&widths, gap), width);
        }
        text
    }

    /// The width of each column, and the gap between two.
    fn widths(&self, width: Option<usize>) -> (Vec<usize>, usize) {
        let mut natural: Vec<usize> = self.headings.iter().map(|heading| heading.width()).collect();
        for row in &self.rows {
            for (width, cell) in natural.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        let Some(limit) = width else { return (natural, GAP) };
        // Numbers, states and times say nothing when they are cut, so what is long gives way first.
        let is_long = |column: usize| natural[column] > SHORT && !self.right[column];
        for (gap, only_long) in [(GAP, true), (NARROW_GAP, true), (NARROW_GAP, false)] {
            let mut widths = natural.clone();
            let room = limit.saturating_sub(gap * widths.len().saturating_sub(1));
            while widths.iter().sum::<usize>() > room {
                let columns = widths.iter_mut().enumerate().filter(|(column, _)| !only_long || is_long(*column));
                match columns.map(|(_, width)| width).max() {
                    Some(widest) if *widest > LEAST => *widest -= 1,
                    _ => break,
                }
            }
            if widths.iter().sum::<usize>() <= room || !only_long {
                return (widths, gap);
            }
        }
        (natural, GAP)
    }

    fn line(&self, text: &mut String, row: &[Cell], (widths, gap): (&[usize], usize), limit: Option<usize>) {
        let mut used = 0;
        let mut pending = 0;
        for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
            let mut room = *width;
            if let Some(limit) = limit {
                if used + pending >= limit {
                    break;
                }
                room = room.min(limit - used - pending);
            }
            let shown = cut(&cell.text, room);
            let taken = shown.width();
            let fill = room.saturating_sub(taken);
            let (before, after) = if self.right[index] { (fill, 0) } else { (0, fill) };
            if !shown.is_empty() {
                // Spaces are written only before something, so that no line ends in them.
                let _ = write!(text, "{:1$}", "", pending + before);
                let _ = write!(text, "{0}{shown}{0:#}", cell.style);
                used += pending + before + taken;
                pending = after + gap;
            } else {
                pending += fill + gap;
            }
        }
        text.push('\n');
    }
}

/// A text in at most `width` columns, its middle replaced by … where it is longer.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    let (mut head, mut tail) = (String::new(), Vec::new());
    let half = width / 2;
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide > half {
            break;
        }
        used += wide;
        head.push(c);
    }
    let mut left = (width - 1).saturating_sub(used);
    for c in text.chars().rev() {
        let wide = c.width().unwrap_or(0);
        if wide > left {
            break;
        }
        left -= wide;
        tail.push(c);
    }
    // A mark that belongs to a character that was cut away would stick to the ….
    while tail.last().is_some_and(|c: &char| c.width().unwrap_or(0) == 0) {
        tail.pop();
    }
    head.push('…');
    head.extend(tail.into_iter().rev());
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_align_by_width_and_lines_end_without_spaces() {
        let mut table = Table::new(["name", "size", "state"]).right([1]);
        table.row(["digits", "213 KiB", "ready"]);
        table.row(["숫자", "1 B", ""]);
        assert_eq!(
            plain(&table.render(None)),
            "name        size   state\n\
             digits   213 KiB   ready\n\
             숫자         1 B\n"
        );
    }

    #[test]
    fn a_column_without_anything_in_it_is_left_out() {
        let mut table = Table::new(["name", "kind", "spent"]);
        table.row(["digits", "", "$1"]);
        assert_eq!(plain(&table.render(None)), "name     spent\ndigits   $1\n");
    }

    #[test]
    fn an_empty_cell_keeps_the_next_in_its_column() {
        let mut table = Table::bare(3);
        table.row(["a", "", "c"]);
        table.row(["aa", "bb", "c"]);
        assert_eq!(plain(&table.render(None)), "a         c\naa   bb   c\n");
    }

    #[test]
    fn long_cells_are_cut_in_the_middle_and_nothing_wraps() {
        let mut table = Table::new(["name", "why"]);
        table.row(["train-digits-with-a-very-long-name", "the only node that fits; no other has two GPUs free"]);
        table.row(["b", "c"]);
        for width in [1, 3, 9, 20, 40, 60, 200] {
            for line in plain(&table.render(Some(width))).lines() {
                assert!(line.width() <= width, "{width}: {line:?}");
            }
        }
        assert!(plain(&table.render(Some(40))).contains('…'));
        assert!(plain(&table.render(None)).contains("two GPUs free"));
    }

    #[test]
    fn what_is_long_gives_way_before_states_and_numbers() {
        let mut table = Table::new(["name", "state", "cost", "why"]).right([2]);
        table.row(["train-digits-of-the-whole-world", "succeeded", "<$0.000001", "the only node that fits"]);
        let text = plain(&table.render(Some(44)));
        assert!(text.contains("succeeded") && text.contains("<$0.000001") && text.contains('…'), "{text}");
    }

    #[test]
    fn cutting_counts_wide_characters_and_keeps_both_ends() {
        assert_eq!(cut("abcdefgh", 5), "ab…gh");
        assert_eq!(cut("가나다라마", 6), "가…마");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abc", 1), "…");
        assert_eq!(cut("abc", 0), "");
        for width in 0..12 {
            assert!(cut("가a나b다c라d", width).width() <= width);
        }
    }

    #[test]
    fn a_cell_cannot_break_its_line_or_the_terminal() {
        let mut table = Table::bare(1);
        table.row(["a\nb\u{1b}[31m"]);
        assert_eq!(plain(&table.render(None)), "a b [31m\n");
    }
}
