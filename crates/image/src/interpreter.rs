//! Which Python an environment is built on: what is wanted, what is here, and in which order to try.
//!
//! Only CPython from 3.8 on counts, in its ordinary build. The user's interpreters are run to be
//! asked (a pyenv shim may be there and answer nothing) and never changed.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use pep440_rs::{Version, VersionSpecifiers};
use serde::Deserialize;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::error::InputError;
use crate::host::Host;

/// Later ones are tried when the packages refuse an interpreter; more than this helps nobody.
const MOST_TRIED: usize = 4;
const MOST_PROBED: usize = 64;
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// What uv is asked for when nothing says otherwise: new, and old enough to have wheels.
const FETCHABLE: [&str; 4] = ["3.13", "3.12", "3.11", "3.10"];

/// Everything that was said about Python, all of which must hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    said: Vec<(String, VersionSpecifiers)>,
}

impl Wanted {
    pub fn add(&mut self, place: &str, text: &str) -> Result<(), InputError> {
        let text = text.trim();
        let bare = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
        let specifier = match (bare, text.matches('.').count()) {
            (true, 0 | 1) => format!("=={text}.*"),
            (true, _) => format!("=={text}"),
            (false, _) => text.to_owned(),
        };
        match VersionSpecifiers::from_str(&specifier) {
            Ok(specifiers) if !specifiers.is_empty() => {
                self.said.push((place.to_owned(), specifiers));
                Ok(())
            }
            _ => Err(InputError::new(
                place,
                format!("`{text}` is no Python version; write \"3.12\" or \">=3.10,<3.13\""),
            )),
        }
    }

    pub fn accepts(&self, version: &Version) -> bool {
        self.said.iter().all(|(_, specifiers)| specifiers.contains(version))
    }

    pub fn describe(&self) -> String {
        if self.said.is_empty() {
            return "3.8 or newer".to_owned();
        }
        let said = self.said.iter();
        let each = said.map(|(place, specifiers)| format!("{specifiers} ({place})"));
        each.collect::<Vec<_>>().join(" and ")
    }

    /// What to ask uv for, one after the other; `tried` holds minor versions such as `3.12`.
    pub fn fetchable(&self, tried: &BTreeSet<String>) -> Vec<String> {
        let usual = FETCHABLE.iter().filter(|minor| {
            // A late patch release, which both >=3.12.4 and ==3.12.* accept.
            let newest = Version::from_str(&format!("{minor}.99"));
            !tried.contains(**minor) && newest.is_ok_and(|newest| self.accepts(&newest))
        });
        let mut requests: Vec<String> = usual.map(|&minor| minor.to_owned()).collect();
        if requests.is_empty() && !self.said.is_empty() && tried.is_empty() {
            let all = self.said.iter().map(|(_, specifiers)| specifiers.to_string());
            requests.push(all.collect::<Vec<_>>().join(","));
        }
        requests
    }
}

/// An interpreter that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interpreter {
    pub version: Version,
    pub path: PathBuf,
    /// Why it cannot be used, whatever is wanted.
    pub unusable: Option<String>,
}

impl Interpreter {
    pub fn minor(&self) -> String {
        let release = self.version.release();
        let part = |index: usize| release.get(index).copied().unwrap_or(0);
        format!("{}.{}", part(0), part(1))
    }
}

/// The usable interpreters, newest first, one of each minor version.
pub(crate) fn choose(found: &[Interpreter], wanted: &Wanted) -> Vec<Interpreter> {
    let mut fit: Vec<&Interpreter> =
        found.iter().filter(|one| one.unusable.is_none() && wanted.accepts(&one.version)).collect();
    // Stable: of two equal ones the first on the PATH stays first.
    fit.sort_by(|a, b| b.version.cmp(&a.version));
    let mut minors = HashSet::new();
    fit.retain(|one| minors.insert(one.minor()));
    fit.into_iter().take(MOST_TRIED).cloned().collect()
}

pub(crate) fn describe_found(found: &[Interpreter]) -> String {
    if found.is_empty() {
        return "none".to_owned();
    }
    let each = found.iter().map(|one| match &one.unusable {
        None => format!("{} ({})", one.version, one.path.display()),
        Some(why) => format!("{} ({}, {why})", one.version, one.path.display()),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Asks every interpreter in the usual places what it is.
pub(crate) async fn discover(host: &Host, fetched: &Path) -> Vec<Interpreter> {
    let candidates = candidates(host, fetched);
    let mut probes = JoinSet::new();
    for (order, candidate) in candidates.into_iter().take(MOST_PROBED).enumerate() {
        let host = host.clone();
        probes.spawn(async move { (order, probe(&candidate, &host).await) });
    }
    let mut answers: Vec<_> = probes.join_all().await;
    answers.sort_by_key(|(order, _)| *order);
    let mut seen = HashSet::new();
    let mut found: Vec<Interpreter> = answers.into_iter().filter_map(|(_, one)| one).collect();
    found.retain(|one| seen.insert(one.path.clone()));
    found
}

/// Files that may be interpreters, without running any, the PATH first.
fn candidates(host: &Host, fetched: &Path) -> Vec<PathBuf> {
    let mut folders = host.search_path();
    folders.extend([PathBuf::from("/usr/bin"), PathBuf::from("/usr/local/bin")]);
    let mut version_folders = vec![fetched.to_owned()];
    if let Some(home) = &host.home {
        folders.push(home.join(".local/bin"));
        version_folders.push(home.join(".pyenv/versions"));
        version_folders.push(home.join(".local/share/uv/python"));
    }
    for parent in version_folders {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        folders.extend(entries.map(|entry| entry.path().join("bin")));
    }
    let mut seen = HashSet::new();
    let mut files = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| is_interpreter_name(name)).collect();
        names.sort_unstable();
        for path in names.iter().map(|name| folder.join(name)) {
            // python, python3 and python3.11 are mostly one file.
            let real = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
            // A shim decides by the name it is called by, so each of its names counts.
            let shim = folder.ends_with("shims");
            if shim || seen.insert(real) {
                files.push(path);
            }
        }
    }
    files
}

fn is_interpreter_name(name: &str) -> bool {
    match name.strip_prefix("python") {
        Some("" | "3") => true,
        Some(rest) => {
            rest.strip_prefix("3.").is_some_and(|minor| !minor.is_empty() && minor.chars().all(|c| c.is_ascii_digit()))
        }
        None => false,
    }
}

/// What the probe prints. A virtual environment is answered by the interpreter under it.
const PROBE: &str = r"
import json, os, sys, sysconfig
missing = []
for name in ('ctypes', 'ssl', 'zlib'):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
print(json.dumps({
    'implementation': sys.implementation.name,
    'version': '.'.join(str(part) for part in sys.version_info[:3]),
    'level': sys.version_info.releaselevel,
    'path': os.path.realpath(getattr(sys, '_base_executable', None) or sys.executable),
    'free_threaded': bool(sysconfig.get_config_var('Py_GIL_DISABLED')),
    'missing': missing,
}))
";

#[derive(Debug, Deserialize)]
struct Answer {
    implementation: String,
    version: String,
    level: String,
    path: PathBuf,
    free_threaded: bool,
    missing: Vec<String>,
}

async fn probe(path: &Path, host: &Host) -> Option<Interpreter> {
    let mut command = Command::new(path);
    host.clean(&mut command);
    command.args(["-I", "-c", PROBE]).stdin(Stdio::null()).stderr(Stdio::null()).current_dir("/").kill_on_drop(true);
    let output = tokio::time::timeout(PROBE_LIMIT, command.output()).await;
    let output = output.ok()?.ok()?;
    if !output.status.success() {
        return None;
    }
    interpreter_of(serde_json::from_slice(&output.stdout).ok()?)
}

fn interpreter_of(answer: Answer) -> Option<Interpreter> {
    let version = Version::from_str(&answer.version).ok()?;
    let oldest = Version::new([3, 8]);
    let unusable = if answer.implementation != "cpython" {
        Some(format!("is {}", answer.implementation))
    } else if version < oldest {
        Some("older than 3.8".to_owned())
    } else if answer.level != "final" {
        Some("a pre-release".to_owned())
    } else if answer.free_threaded {
        Some("free-threaded".to_owned())
    } else if !answer.missing.is_empty() {
        Some(format!("built without {}", answer.missing.join(", ")))
    } else {
        None
    };
    Some(Interpreter { version, path: answer.path, unusable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpreter(version: &str, path: &str) -> Interpreter {
        Interpreter { version: Version::from_str(version).expect("version"), path: path.into(), unusable: None }
    }

    fn wanted(texts: &[&str]) -> Wanted {
        let mut wanted = Wanted::default();
        for text in texts {
            wanted.add("python", text).expect("good");
        }
        wanted
    }

    #[test]
    fn newest_that_fits_comes_first_and_each_minor_once() {
        let mut found = vec![
            interpreter("3.11.2", "/usr/bin/python3.11"),
            interpreter("3.9.18", "/a"),
            interpreter("3.11.2", "/b"),
            interpreter("3.13.0", "/c"),
            interpreter("3.11.7", "/d"),
            interpreter("3.14.0", "/broken"),
        ];
        found[5].unusable = Some("built without ssl".into());
        let order = |texts: &[&str]| {
            let chosen = choose(&found, &wanted(texts));
            chosen.into_iter().map(|one| one.path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(order(&[]), ["/c", "/d", "/a"]);
        assert_eq!(order(&["3.11"]), ["/d"]);
        assert_eq!(order(&["3.11.2"]), ["/usr/bin/python3.11"]);
        assert_eq!(order(&[">=3.9", "<3.13"]), ["/d", "/a"]);
        assert!(order(&["3.12"]).is_empty());
    }

    #[test]
    fn a_python_that_is_no_version_is_refused() {
        for text in ["", "three", "3.x", "python3.12", "3..1", "."] {
            let error = Wanted::default().add("python", text).expect_err(text);
            assert!(error.to_string().starts_with("python: "), "{error}");
        }
    }

    #[test]
    fn uv_is_asked_for_what_was_not_tried_and_is_wanted() {
        let tried = |minors: &[&str]| minors.iter().map(|&minor| minor.to_owned()).collect();
        assert_eq!(wanted(&[]).fetchable(&tried(&[]))[0], "3.13");
        assert_eq!(wanted(&[]).fetchable(&tried(&["3.13"]))[0], "3.12");
        assert_eq!(wanted(&["<3.12"]).fetchable(&tried(&["3.11"])), ["3.10"]);
        assert_eq!(wanted(&["3.14"]).fetchable(&tried(&[])), ["==3.14.*"]);
        assert_eq!(wanted(&["3.12.4"]).fetchable(&tried(&[])), ["==3.12.4"]);
        assert!(wanted(&["3.14"]).fetchable(&tried(&["3.14"])).is_empty());
    }

    #[test]
    fn names_of_interpreters_are_told_from_their_neighbours() {
        for name in ["python", "python3", "python3.13"] {
            assert!(is_interpreter_name(name), "{name}");
        }
        for name in ["python3-config", "python2.7", "python3.13t", "pythonw", "python3."] {
            assert!(!is_interpreter_name(name), "{name}");
        }
    }
}
