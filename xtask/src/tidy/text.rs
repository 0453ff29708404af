//! What the text itself must not have: files too long to be read in one sitting, crates that do not say what they are
//! for, work left for later, and places of one machine.

use std::{fs, path::Path};

use crate::{
    Result,
    workspace::{files, root, shown},
};

const MOST_LINES: usize = 600;

/// Put together here so that this file does not find itself.
const LATER: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
const LEFT_IN: [&str; 2] = [concat!("dbg", "!("), concat!("todo", "!(")];
const PLACES: [&str; 5] = [
    concat!("/ro", "ot/"),
    concat!("/work/", "main"),
    concat!("/work/", "shared"),
    concat!(".lib", "rary/"),
    concat!("/ho", "me/"),
];

pub fn check() -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for path in files("")? {
        // Binary files and data have no lines to check.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let name = shown(&path);
        if name == "Cargo.lock" || path.extension().is_some_and(|extension| extension == "csv") {
            continue;
        }
        faults.extend(faults_in(&name, &text));
    }
    faults.extend(undocumented()?);
    Ok(faults)
}

fn faults_in(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let is_code =
        ["rs", "py"].iter().any(|extension| Path::new(name).extension().is_some_and(|found| found == *extension))
            || name.starts_with("scripts/");
    let lines = text.lines().count();
    if is_code && lines > MOST_LINES {
        faults.push(format!("{name}: {lines} lines; {MOST_LINES} is where a file is split"));
    }
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        if let Some(place) = PLACES.iter().find(|place| line.contains(**place)) {
            faults.push(format!("{name}:{number}: `{place}` is a place on one machine"));
        }
        if !is_code {
            continue;
        }
        let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(word) = words.into_iter().find(|word| LATER.contains(word)) {
            faults.push(format!("{name}:{number}: {word}: do it, or file an issue"));
        }
        if let Some(call) = LEFT_IN.iter().find(|call| line.contains(**call)) {
            faults.push(format!("{name}:{number}: `{call}` was left in"));
        }
    }
    faults
}

/// Crates whose first file does not begin with what the crate is for.
fn undocumented() -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut crates: Vec<_> = fs::read_dir(root().join("crates"))?.collect::<std::io::Result<Vec<_>>>()?;
    crates.sort_by_key(fs::DirEntry::file_name);
    for folder in crates.iter().map(fs::DirEntry::path).chain([root().join("xtask")]) {
        let first = ["src/lib.rs", "src/main.rs"].map(|file| folder.join(file)).into_iter().find(|file| file.is_file());
        if let Some(file) = first
            && !fs::read_to_string(&file)?.starts_with("//! ")
        {
            faults.push(format!(
                "{}: must begin with what the crate is for and what it does not do (`//! ...`)",
                shown(&file)
            ));
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_left_for_later_and_places_are_found_with_their_line() {
        let text = format!("fine\n// {}: later\nlet folder = \"{}x\";\n{}x);\n", LATER[0], PLACES[0], LEFT_IN[0]);
        let faults = faults_in("crates/x/src/lib.rs", &text);
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].starts_with("crates/x/src/lib.rs:2:"));
        assert!(faults[2].starts_with("crates/x/src/lib.rs:4:"));
    }

    #[test]
    fn prose_may_be_long_and_code_may_not() {
        let text = "line\n".repeat(MOST_LINES + 1);
        assert!(faults_in("docs/long.md", &text).is_empty());
        assert_eq!(faults_in("python/long.py", &text).len(), 1);
    }
}
