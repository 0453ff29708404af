//! What uv's words mean. uv has no machine-readable errors, so its text is sorted here, and cut to
//! what a person needs; text that is not recognised is shown as it is.

use std::path::Path;

use crate::error::BuildError;
use crate::host::without_credentials;

const LONGEST_REASON: usize = 2_000;

/// Where a failure happened, for the words of the error.
pub(crate) struct Scene<'a> {
    pub step: &'static str,
    pub python: &'a str,
    pub index: &'a str,
    pub into: &'a Path,
}

pub(crate) fn explain(stderr: &str, scene: &Scene<'_>) -> BuildError {
    let has = |words: &[&str]| words.iter().any(|word| stderr.contains(word));
    let reason = reason(stderr);
    if has(&["No space left on device", "Disk quota exceeded"]) {
        return BuildError::DiskFull { path: scene.into.to_owned() };
    }
    if has(&["Hash mismatch", "hash mismatch", "Hash-checking is required"]) {
        return BuildError::Hash { reason };
    }
    if has(&["No solution found", "has no wheels with a matching"]) {
        return BuildError::Resolution { python: scene.python.to_owned(), reason };
    }
    if has(&["Failed to build", "build backend returned an error", "Failed to resolve requirements from `build-system"])
    {
        return BuildError::SourceBuild { python: scene.python.to_owned(), reason };
    }
    if has(&[
        "error sending request",
        "Request failed after",
        "Failed to fetch",
        "dns error",
        "HTTP status",
        "timed out",
    ]) {
        return unreachable_index(stderr, scene.index);
    }
    BuildError::Uv { step: scene.step, reason }
}

/// Whether a failed resolution is about the Python it was made for.
pub(crate) fn names_interpreter(reason: &str) -> bool {
    [
        "the current Python version",
        "the requested Python version",
        "matching Python ABI tag",
        "matching Python version tag",
        "matching Python implementation tag",
    ]
    .iter()
    .any(|words| reason.contains(words))
}

fn unreachable_index(stderr: &str, index: &str) -> BuildError {
    let failed = address_behind(stderr, "Failed to fetch: ").or_else(|| address_behind(stderr, "Failed to download "));
    let index = without_credentials(index);
    let url = match failed {
        Some(url) if !url.starts_with(index.trim_end_matches('/')) => url,
        _ => index,
    };
    // The last cause is the plainest: "Connection refused", "Name or service not known".
    let mut causes = stderr.lines().filter_map(|line| {
        let line = line.trim();
        line.strip_prefix("cause: ").or_else(|| line.strip_prefix("Caused by: ")).or_else(|| line.strip_prefix("╰─▶ "))
    });
    let reason = causes.next_back().map_or_else(|| reason(stderr), str::to_owned);
    BuildError::Index { url, reason }
}

fn address_behind(text: &str, words: &str) -> Option<String> {
    let rest = &text[text.find(words)? + words.len()..];
    let word = rest.split_whitespace().next()?.trim_matches('`');
    word.contains("://").then(|| without_credentials(word))
}

/// The part of uv's output that says why, without its drawing and without progress.
fn reason(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().collect();
    let first = lines.iter().position(|line| line.starts_with("error:") || line.trim_start().starts_with(['×', '✗']));
    let mut kept: Vec<String> = Vec::new();
    for line in &lines[first.unwrap_or(0)..] {
        let bare = line.trim_start_matches(|c: char| c.is_whitespace() || "×✗╰─▶├│".contains(c)).trim_end();
        let mut text = bare;
        for prefix in ["error: ", "cause: ", "Caused by: "] {
            text = text.strip_prefix(prefix).unwrap_or(text);
        }
        let heading = text.trim_end_matches(':').starts_with("No solution found when resolving");
        if !text.is_empty() && !heading {
            kept.push(text.to_owned());
        }
    }
    // What a package's own build printed can be long, and says most at its end.
    let text = kept.join("\n");
    let count = text.chars().count();
    if count <= LONGEST_REASON {
        return text;
    }
    let tail: String = text.chars().skip(count - LONGEST_REASON).collect();
    format!("...{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(stderr: &str) -> BuildError {
        explain(
            stderr,
            &Scene {
                step: "resolving",
                python: "3.11.2",
                index: "http://me:secret@127.0.0.1:9/simple",
                into: Path::new("/data/environments/x"),
            },
        )
    }

    #[test]
    fn an_unknown_package_is_a_failed_resolution_that_names_it() {
        let error = explained(
            "error: No solution found when resolving dependencies\n  cause: Because nosuch was not found in the package registry and you require nosuch, we can conclude that your requirements are unsatisfiable.\n",
        );
        assert!(!error.depends_on_interpreter());
        let BuildError::Resolution { reason, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(
            reason,
            "Because nosuch was not found in the package registry and you require nosuch, we can conclude that your requirements are unsatisfiable."
        );
    }

    #[test]
    fn the_drawing_of_older_releases_is_taken_off() {
        let error = explained(
            "  × No solution found when resolving dependencies:\n  ╰─▶ Because there is no version of six==99 and you require six==99,\n      we can conclude that your requirements are unsatisfiable.\n",
        );
        let BuildError::Resolution { reason, .. } = error else {
            panic!("{error}");
        };
        assert!(reason.starts_with("Because there is no version of six==99"));
        assert!(!reason.contains(['×', '╰', '▶']));
    }

    #[test]
    fn a_resolution_that_fails_by_the_python_is_known_as_such() {
        for words in [
            "Because the current Python version (3.9.18) does not satisfy Python>=3.11 and x depends on Python>=3.11, no.",
            "Because tensorflow==2.15.0 has no wheels with a matching Python ABI tag (e.g., `cp313`) and you require it, no.",
        ] {
            let text = format!("error: No solution found when resolving dependencies\n  cause: {words}\n");
            assert!(explained(&text).depends_on_interpreter(), "{words}");
        }
    }

    #[test]
    fn an_index_that_does_not_answer_is_named_without_its_password() {
        let error = explained(
            "error: Request failed after 3 retries in 6.0s\n  cause: Failed to fetch: http://127.0.0.1:9/simple/six/\n  cause: error sending request for url (http://127.0.0.1:9/simple/six/)\n  cause: tcp connect error\n  cause: Connection refused (os error 111)\n",
        );
        let BuildError::Index { url, reason } = error else {
            panic!("{error}");
        };
        assert_eq!(url, "http://127.0.0.1:9/simple");
        assert_eq!(reason, "Connection refused (os error 111)");
    }

    #[test]
    fn a_full_disk_and_a_wrong_hash_are_told_apart_from_the_rest() {
        let full = "error: Failed to download `onnx==1.23.2`\n  cause: failed to write to file `/c/x.so`: No space left on device (os error 28)\n";
        assert!(matches!(explained(full), BuildError::DiskFull { .. }));
        let hash = "error: Failed to download `six==1.17.0`\n  cause: Hash mismatch for `six==1.17.0`\n";
        assert!(matches!(explained(hash), BuildError::Hash { .. }));
        let other = "error: something new\n";
        let BuildError::Uv { reason, .. } = explained(other) else {
            panic!("not recognised text is shown as it is");
        };
        assert_eq!(reason, "something new");
    }
}
