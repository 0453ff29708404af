//! Where each document of a file begins and ends.

use std::ops::Range;

/// A line that begins with `---` or `...` ends a document wherever it stands: YAML allows neither
/// inside any value. Splitting before parsing keeps one broken document from hiding the next.
pub fn split(text: &str) -> Vec<Range<usize>> {
    let mut documents = Vec::new();
    let mut start = 0;
    let mut end = 0;
    let mut says_something = false;
    let mut marked = false;
    for line in text.split_inclusive('\n') {
        let marker = marker(line);
        if marker == Some("---") {
            if says_something {
                documents.push(start..end);
            }
            // Comments and directives before the first marker belong to the document behind it.
            if says_something || marked {
                start = end;
            }
            marked = true;
        }
        end += line.len();
        match marker {
            Some("...") => {
                if says_something {
                    documents.push(start..end - line.len());
                }
                start = end;
                says_something = false;
                marked = false;
            }
            // What stands behind the marker belongs to the document: `--- {kind: job}`.
            Some(_) => says_something = has_content(&line[3..]),
            None => says_something |= has_content(line) && !line.starts_with('%'),
        }
    }
    if says_something {
        documents.push(start..end);
    }
    documents
}

fn marker(line: &str) -> Option<&'static str> {
    let marker = ["---", "..."].into_iter().find(|marker| line.starts_with(marker))?;
    let rest = &line[3..];
    (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])).then_some(marker)
}

fn has_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_what_stands_between_the_markers() {
        let text = "# licence\n---\nkind: a\n---\n# nothing\n---\r\nkind: b\r\n...\nkind: c\n--- {kind: d}\n";
        let documents: Vec<_> = split(text).into_iter().map(|range| text[range].trim_end().to_owned()).collect();
        assert_eq!(documents, ["# licence\n---\nkind: a", "---\r\nkind: b", "kind: c", "--- {kind: d}"]);
        assert!(split("# only a comment\n---\n---\n").is_empty());
        assert_eq!(split("%YAML 1.2\n---\nkind: a\n").len(), 1);
        assert_eq!(split("command: |\n  ---\n  x\n----\n").len(), 1);
    }
}
