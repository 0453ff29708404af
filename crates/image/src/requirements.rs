//! What a package is allowed to look like, in `packages:` and in a requirements file.
//!
//! Everything here is handed to uv later, so a line must not be able to become an option, read a
//! file of the machine or name code that no hash can pin. Markers are left to uv to understand.

use std::str::FromStr;

use pep440_rs::VersionSpecifiers;

use crate::error::InputError;

const LONGEST_LINE: usize = 1_000;
const MOST_LINES: usize = 2_000;

/// A requirements file that was looked through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirements {
    /// Lines such as `--index-url https://...`, as they stood.
    pub options: Vec<String>,
    /// Requirements without their hashes.
    pub lines: Vec<String>,
    /// Every line is pinned and has a hash: the file is a lock.
    pub locked: bool,
    pub names_index: bool,
}

/// Checks one entry of `packages`.
pub fn check_package(place: &str, text: &str) -> Result<(), InputError> {
    let fail = |problem: String| Err(InputError::new(place, problem));
    let text = text.trim();
    if text.is_empty() {
        return fail("is empty; a package is a name such as numpy or numpy>=2".into());
    }
    if text.len() > LONGEST_LINE {
        return fail(format!("is longer than {LONGEST_LINE} characters"));
    }
    if text.chars().any(char::is_control) {
        return fail("holds a control character or a line break".into());
    }
    if text.starts_with('-') {
        return fail(format!("`{text}` is an option; only packages can stand here"));
    }
    let (requirement, marker) = match text.split_once(';') {
        Some((requirement, marker)) => (requirement.trim(), marker),
        None => (text, ""),
    };
    if text.contains("://") || requirement.contains('@') {
        return fail(format!("`{text}` is an address; give the package by name and version, as the index has it"));
    }
    let archive = [".whl", ".zip", ".tar.gz", ".tar.bz2", ".tar.xz"].iter().any(|ending| requirement.ends_with(ending));
    if requirement.contains(['/', '\\']) || requirement.starts_with(['.', '~']) || archive {
        return fail(format!("`{text}` is a file; give the package by name and version, as the index has it"));
    }
    if marker.contains("--") || marker.contains('#') || text.contains("${") {
        return fail(format!("`{text}` holds more than a package and its marker"));
    }
    check_name_and_version(place, text, requirement)
}

fn check_name_and_version(place: &str, text: &str, requirement: &str) -> Result<(), InputError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let end = requirement.find(|c| !is_name(c)).unwrap_or(requirement.len());
    let (name, rest) = requirement.split_at(end);
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !edge(name.chars().next()) || !edge(name.chars().last()) {
        return Err(InputError::new(place, format!("`{text}` does not begin with a package's name")));
    }
    let mut rest = rest.trim_start();
    if let Some(inside) = rest.strip_prefix('[') {
        let Some((extras, after)) = inside.split_once(']') else {
            return Err(InputError::new(place, format!("`{text}` lacks a `]`")));
        };
        let bad = extras.split(',').map(str::trim).find(|extra| extra.is_empty() || !extra.chars().all(is_name));
        if bad.is_some() {
            return Err(InputError::new(place, format!("`[{extras}]` in `{text}` is no list of extras")));
        }
        rest = after.trim();
    }
    let versions = rest.strip_prefix('(').and_then(|inside| inside.strip_suffix(')')).unwrap_or(rest);
    if versions.trim().is_empty() {
        return Ok(());
    }
    match VersionSpecifiers::from_str(versions) {
        Ok(_) => Ok(()),
        Err(_) => Err(InputError::new(
            place,
            format!("`{text}`: `{versions}` is no version; write ==1.2.3, ==1.2.*, >=1.2,<2"),
        )),
    }
}

/// Reads a requirements file: packages, hashes and the few options that only choose an index.
pub fn parse_requirements(text: &str) -> Result<Requirements, InputError> {
    let mut found = Requirements { options: Vec::new(), lines: Vec::new(), locked: false, names_index: false };
    let mut hashed = 0_usize;
    let mut first_without = None;
    let mut first_loose = None;
    for (number, line) in logical_lines(text) {
        let place = format!("requirements line {number}");
        if found.lines.len() + found.options.len() >= MOST_LINES {
            return Err(InputError::new(place, format!("more than {MOST_LINES} lines")));
        }
        if line.starts_with('-') {
            found.names_index |= check_option(&place, &line)?;
            found.options.push(line);
            continue;
        }
        let (requirement, hashes) = split_hashes(&place, &line)?;
        check_package(&place, &requirement)?;
        if hashes {
            hashed += 1;
            if !is_pinned(&requirement) {
                first_loose.get_or_insert(place);
            }
        } else {
            first_without.get_or_insert(place);
        }
        found.lines.push(requirement);
    }
    if hashed > 0 {
        if let Some(place) = first_without {
            return Err(InputError::new(place, "has no --hash while other lines have; either all have one or none"));
        }
        if let Some(place) = first_loose {
            return Err(InputError::new(place, "has a --hash but no single version; write name==version"));
        }
        found.locked = true;
    }
    Ok(found)
}

/// Joins lines that end in a backslash, takes comments and empty lines out, and numbers the rest.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, raw) in text.lines().enumerate() {
        let mut line = raw.trim();
        if line.starts_with('#') {
            line = "";
        } else if let Some(at) = comment_start(line) {
            line = line[..at].trim_end();
        }
        let (content, goes_on) = match line.strip_suffix('\\') {
            Some(content) => (content.trim_end(), true),
            None => (line, false),
        };
        let (_, joined) = open.get_or_insert_with(|| (index + 1, String::new()));
        if !joined.is_empty() && !content.is_empty() {
            joined.push(' ');
        }
        joined.push_str(content);
        if !goes_on {
            lines.extend(open.take());
        }
    }
    lines.extend(open);
    lines.retain(|(_, line)| !line.is_empty());
    lines
}

fn comment_start(line: &str) -> Option<usize> {
    line.match_indices('#').map(|(at, _)| at).find(|at| line[..*at].ends_with(char::is_whitespace))
}

/// Returns the requirement alone, and whether hashes stood behind it.
fn split_hashes(place: &str, line: &str) -> Result<(String, bool), InputError> {
    let mut words = Vec::new();
    let mut hashes = false;
    let mut rest = line.split_whitespace().peekable();
    while let Some(word) = rest.next() {
        let hash = match word.strip_prefix("--hash") {
            Some("") => rest.next().unwrap_or_default(),
            Some(value) if value.starts_with('=') => &value[1..],
            _ if word.starts_with("--") => {
                return Err(InputError::new(
                    place,
                    format!("`{word}` behind a package is not supported; only --hash is"),
                ));
            }
            _ => {
                words.push(word);
                continue;
            }
        };
        check_hash(place, hash)?;
        hashes = true;
    }
    Ok((words.join(" "), hashes))
}

fn check_hash(place: &str, hash: &str) -> Result<(), InputError> {
    let good = hash.split_once(':').is_some_and(|(algorithm, digest)| {
        let length = match algorithm {
            "sha256" => 64,
            "sha384" => 96,
            "sha512" => 128,
            _ => return false,
        };
        digest.len() == length && digest.chars().all(|c| c.is_ascii_hexdigit())
    });
    if good {
        return Ok(());
    }
    Err(InputError::new(place, format!("`{hash}` is no hash; write --hash=sha256:... (or sha384, sha512)")))
}

fn is_pinned(requirement: &str) -> bool {
    let version = requirement.split(';').next().unwrap_or_default();
    version.contains("==") && !version.contains('*') && !version.contains(',')
}

/// Allows the options that choose an index or wheels; says why the others are refused.
fn check_option(place: &str, line: &str) -> Result<bool, InputError> {
    let (option, value) =
        line.split_once(['=', ' ', '\t']).map_or((line, ""), |(option, value)| (option, value.trim()));
    // pip also reads -rother.txt, where the value stands right behind a short option.
    let option = match option.as_bytes() {
        [b'-', short, _, ..] if *short != b'-' => &option[..2],
        _ => option,
    };
    let refuse = |why: &str| Err(InputError::new(place, format!("`{option}` {why}")));
    let one_word = !value.is_empty() && !value.contains(char::is_whitespace);
    match option {
        "-i" | "--index-url" | "--extra-index-url" => {
            let web = value.starts_with("https://") || value.starts_with("http://");
            if !web || !one_word || value.contains("${") {
                return refuse("needs an address that begins with https:// or http://");
            }
            Ok(option != "--extra-index-url")
        }
        "--only-binary" | "--no-binary" => {
            if !one_word || value.starts_with('-') {
                return refuse("needs a package's name or :all:");
            }
            Ok(false)
        }
        "-r" | "--requirement" | "-c" | "--constraint" => {
            refuse("names another file, which is not here; put its lines into this one")
        }
        "-e" | "--editable" => refuse("installs a folder; code comes with the job's `code`, packages from the index"),
        "-f" | "--find-links" | "--no-index" => {
            refuse("names files beside the index, which are not here; use --index-url")
        }
        _ => refuse("is not supported in a requirements file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_by_name_and_version_are_taken() {
        for text in [
            "six",
            "scikit-learn==1.9.*",
            "numpy >=1.26, <3",
            "ray[default,tune]>=2",
            "pywin32; sys_platform == 'win32'",
            "torch (>=2)",
            "a.b_c~=1.4",
        ] {
            assert_eq!(check_package("packages[0]", text), Ok(()), "{text}");
        }
    }

    #[test]
    fn packages_that_are_something_else_are_refused_with_their_place() {
        for (text, word) in [
            ("", "empty"),
            ("-r other.txt", "option"),
            ("--index-url=http://evil", "option"),
            ("file:///etc/passwd", "address"),
            ("six @ file:///tmp/six.whl", "address"),
            ("six@../six", "address"),
            ("git+https://host/repo", "address"),
            ("../x", "file"),
            ("./x", "file"),
            ("~root/x", "file"),
            ("/etc/passwd", "file"),
            ("six.whl", "file"),
            ("six\n--index-url http://evil", "control character"),
            ("six --index-url http://evil", "address"),
            ("six --pre", "no version"),
            ("six==", "no version"),
            ("six ; python_version > '3' --hash=x", "more than"),
            ("six==${VERSION}", "more than"),
            ("six[", "lacks"),
            ("==1.0", "name"),
        ] {
            let error = check_package("packages[3]", text).expect_err(text);
            assert_eq!(error.place, "packages[3]");
            assert!(error.problem.contains(word), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_file_without_hashes_is_to_be_resolved() {
        let found = parse_requirements(
            "# comment\n--extra-index-url https://host/simple\n\nsix >= 1  # why\nnumpy \\\n  >=2\n",
        )
        .expect("good");
        assert_eq!(found.lines, ["six >= 1", "numpy >=2"]);
        assert_eq!(found.options, ["--extra-index-url https://host/simple"]);
        assert!(!found.locked && !found.names_index);
    }

    #[test]
    fn a_file_with_all_hashes_is_a_lock() {
        let hash = "a".repeat(64);
        let text = format!(
            "-i https://host/simple\nsix==1.17.0 \\\n    --hash=sha256:{hash} \\\n    --hash=sha256:{hash}\n    # via x\n"
        );
        let found = parse_requirements(&text).expect("good");
        assert!(found.locked && found.names_index);
        assert_eq!(found.lines, ["six==1.17.0"]);
    }

    #[test]
    fn files_that_reach_elsewhere_or_pin_by_halves_are_refused() {
        let hash = "a".repeat(64);
        for (text, word) in [
            ("six\n-r other.txt".to_owned(), "line 2: `-r`"),
            ("-rother.txt".to_owned(), "`-r`"),
            ("-e .".to_owned(), "`-e`"),
            ("-f /wheels".to_owned(), "`-f`"),
            ("--no-index".to_owned(), "`--no-index`"),
            ("--index-url file:///x".to_owned(), "https://"),
            ("--index-url=https://h/${TOKEN}".to_owned(), "https://"),
            ("--trusted-host x".to_owned(), "not supported"),
            ("./six.whl".to_owned(), "file"),
            ("six \\\n-r other.txt".to_owned(), "line 1"),
            ("six==1 --hash=md5:00".to_owned(), "no hash"),
            ("six==1 --config-settings x".to_owned(), "only --hash"),
            (format!("six==1 --hash=sha256:{hash}\nnumpy==2"), "line 2: has no --hash"),
            (format!("six>=1 --hash=sha256:{hash}"), "no single version"),
        ] {
            let error = parse_requirements(&text).expect_err(&text);
            assert!(error.to_string().contains(word), "{text:?}: {error}");
        }
    }
}
