//! A program's last words: the one line of a log that says why it failed.

/// At most this much is shown.
const LONGEST: usize = 300;

/// `Traceback: train.py:31: KeyError: 'label'` for Python, else the last line that says anything.
pub fn last_words(log: &str) -> Option<String> {
    let log = anstream::adapter::strip_str(log).to_string();
    let lines: Vec<&str> = log.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    let words = traceback(&lines).or_else(|| {
        let errors = |line: &&&str| {
            let lower = line.to_lowercase();
            ["error", "exception", "fatal", "panicked", "not found", "killed", "failed"]
                .iter()
                .any(|word| lower.contains(word))
        };
        let tail = &lines[lines.len().saturating_sub(20)..];
        tail.iter().rev().find(errors).or_else(|| lines.last()).map(|line| line.trim().to_owned())
    })?;
    let words = super::output::format::clean(&words);
    Some(if words.chars().count() > LONGEST { words.chars().take(LONGEST).chain(['…']).collect() } else { words })
}

/// The last traceback's own end: what was raised, and in which line of the user's code.
fn traceback(lines: &[&str]) -> Option<String> {
    let start = lines.iter().rposition(|line| line.trim_start().starts_with("Traceback (most recent call last):"))?;
    let indent = lines[start].len() - lines[start].trim_start().len();
    let body = &lines[start + 1..];
    // The frames are indented deeper than the headline; the exception stands below it.
    let end = body.iter().position(|line| line.len() - line.trim_start().len() <= indent)?;
    let raised = body[end].trim();
    let frames: Vec<(&str, &str)> = body[..end].iter().filter_map(|line| frame(line.trim_start())).collect();
    let own = frames.iter().rev().find(|(file, _)| !is_library(file)).or_else(|| frames.last());
    Some(match own {
        Some((file, line)) => format!("Traceback: {}:{line}: {raised}", short(file)),
        None => format!("Traceback: {raised}"),
    })
}

/// `File "/x/train.py", line 31, in main`
fn frame(line: &str) -> Option<(&str, &str)> {
    let (file, rest) = line.strip_prefix("File \"")?.split_once("\", line ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    (end > 0).then(|| (file, &rest[..end]))
}

fn is_library(file: &str) -> bool {
    file.starts_with('<')
        || ["/site-packages/", "/dist-packages/", "/lib/python"].iter().any(|part| file.contains(part))
}

fn short(file: &str) -> &str {
    file.rsplit_once('/').map_or(file, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceback_is_told_by_the_line_of_ones_own_code() {
        let log = "epoch 1\nTraceback (most recent call last):\n  File \"/w/train.py\", line 60, in <module>\n    main()\n    ~~~~^^\n  \
                   File \"/w/train.py\", line 31, in main\n    y = frame['label']\n  File \"/e/lib/python3.11/site-packages/pandas/core.py\", line 9, in get\n    \
                   raise KeyError(key)\nKeyError: 'label'\n";
        assert_eq!(last_words(log).unwrap(), "Traceback: train.py:31: KeyError: 'label'");
    }

    #[test]
    fn of_chained_tracebacks_the_last_counts() {
        let log = "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\nValueError: first\n\n\
                   During handling of the above exception, another exception occurred:\n\n\
                   Traceback (most recent call last):\n  File \"a.py\", line 3, in <module>\nRuntimeError: second\nexit\n";
        assert_eq!(last_words(log).unwrap(), "Traceback: a.py:3: RuntimeError: second");
    }

    #[test]
    fn without_a_traceback_the_last_error_is_told() {
        assert_eq!(last_words("sh: 1: trainn: not found\n").unwrap(), "sh: 1: trainn: not found");
        assert_eq!(last_words("a\nError: no data\nbye\n").unwrap(), "Error: no data");
        assert_eq!(last_words("only this\n\n").unwrap(), "only this");
        assert_eq!(last_words("\n \n"), None);
    }

    #[test]
    fn what_a_program_prints_cannot_drive_the_terminal_or_flood_it() {
        assert_eq!(last_words("\u{1b}[31mError: x\u{1b}[0m").unwrap(), "Error: x");
        assert!(last_words(&"error ".repeat(10_000)).unwrap().chars().count() <= LONGEST + 1);
        assert!(last_words("Traceback (most recent call last):\n").is_some());
    }
}
