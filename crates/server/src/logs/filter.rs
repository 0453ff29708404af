//! Takes the lines that are for Dure (`##dure ...`) out of a log as it comes in.

use dure_plan::metric::{self, MARK, Report};

/// Follows a log from any offset on. What it gives out is never cut inside a character, and a line that
/// might still become a report is held until that is known.
#[derive(Debug, Default)]
pub struct LineFilter {
    /// The beginning of a line that may be a report, or the beginning of a character.
    held: Vec<u8>,
    in_report: bool,
    mid_line: bool,
}

/// Longer reports are not believed.
const LONGEST_REPORT: usize = 1 << 20;

/// What came out of some bytes.
#[derive(Debug, Default, PartialEq)]
pub struct Filtered {
    pub text: String,
    /// Each with the offset of its line's end within all that was fed.
    pub reports: Vec<(u64, Report)>,
}

impl LineFilter {
    /// For a log that is read from the middle of a line on.
    pub fn mid_line() -> Self {
        Self { mid_line: true, ..Self::default() }
    }

    /// Everything, reports too; only characters are kept whole.
    pub fn feed_raw(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        self.held = all.split_off(whole_characters(&all));
        String::from_utf8_lossy(&all).into_owned()
    }

    /// How many fed bytes are not decided yet: an offset to go on from later is this much earlier.
    pub fn held(&self) -> u64 {
        self.held.len() as u64
    }

    /// `offset` is where `bytes` begin in the whole log.
    pub fn feed(&mut self, offset: u64, bytes: &[u8]) -> Filtered {
        let mut out = Filtered::default();
        let start = offset - self.held();
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut text = Vec::with_capacity(all.len());
        let mut rest: &[u8] = &all;
        let mut at = start;
        while !rest.is_empty() {
            let end = memchr(rest);
            let line = &rest[..end.unwrap_or(rest.len())];
            let report = self.in_report || (!self.mid_line && line.starts_with(MARK.as_bytes()));
            let maybe = !self.mid_line && end.is_none() && MARK.as_bytes().starts_with(line);
            if (report && end.is_none() && line.len() < LONGEST_REPORT) || maybe {
                self.held = rest.to_vec();
                break;
            }
            let length = line.len() + usize::from(end.is_some());
            at += length as u64;
            if report {
                self.in_report = end.is_none();
                if let Some(report) = std::str::from_utf8(line).ok().and_then(metric::parse) {
                    out.reports.push((at, report));
                }
            } else {
                text.extend_from_slice(&rest[..length]);
                self.mid_line = end.is_none();
            }
            rest = &rest[length..];
        }
        if self.held.is_empty() {
            let cut = whole_characters(&text);
            self.held = text.split_off(cut);
        }
        out.text = String::from_utf8_lossy(&text).into_owned();
        out
    }

    /// The end: what is held was no report after all, or one without its line's end.
    pub fn finish(&mut self) -> Filtered {
        let held = std::mem::take(&mut self.held);
        match std::str::from_utf8(&held).ok().and_then(metric::parse) {
            Some(report) => Filtered { text: String::new(), reports: vec![(held.len() as u64, report)] },
            None => Filtered { text: String::from_utf8_lossy(&held).into_owned(), reports: Vec::new() },
        }
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

/// How many bytes there are before a character that is not whole yet.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for start in (tail..bytes.len()).rev() {
        let needs = match bytes[start] {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            _ => continue,
        };
        return if bytes.len() - start < needs { start } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "one\n##dure {\"metrics\":{\"a\":1},\"step\":1}\n두레 progress\rmore\n##du\n##dure {\"metrics\":{\"a\":2}}\nlast";

    fn in_parts(size: usize) -> (String, Vec<f64>) {
        let mut filter = LineFilter::default();
        let (mut text, mut values, mut offset) = (String::new(), Vec::new(), 0);
        let mut take = |out: Filtered| {
            text.push_str(&out.text);
            values.extend(out.reports.into_iter().flat_map(|(_, report)| report.metrics).map(|(_, value)| value));
        };
        for part in LOG.as_bytes().chunks(size) {
            take(filter.feed(offset, part));
            offset += part.len() as u64;
        }
        take(filter.finish());
        (text, values)
    }

    #[test]
    fn however_it_is_cut_the_same_text_and_reports_come_out() {
        for size in 1..=LOG.len() {
            let (text, values) = in_parts(size);
            assert_eq!(text, "one\n두레 progress\rmore\n##du\nlast", "in parts of {size}");
            assert_eq!(values, [1.0, 2.0], "in parts of {size}");
        }
    }

    #[test]
    fn the_offset_to_go_on_from_leaves_out_what_is_undecided() {
        let mut filter = LineFilter::default();
        assert_eq!(filter.feed(0, b"one\n##dur").text, "one\n");
        assert_eq!(filter.held(), 5);
        assert_eq!(filter.feed(9, b"able\n").text, "##durable\n");
    }

    #[test]
    fn what_a_program_prints_without_a_line_end_is_shown_at_once() {
        assert_eq!(LineFilter::default().feed(0, b"Continue? ").text, "Continue? ");
    }
}
