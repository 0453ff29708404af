//! What of a pyproject.toml, and of a uv.lock beside it, can be built without the folder around it.
//!
//! Only the project's own dependencies are installed, not the project: its code comes with the
//! job. Extras and dependency groups are left out for the same reason.

use toml::{Table, Value};

use crate::error::InputError;
use crate::requirements::check_package;

/// Checks a pyproject.toml and returns what it says about Python.
pub fn check_pyproject(text: &str, has_lock: bool) -> Result<Option<String>, InputError> {
    let fail = |problem: String| Err(InputError::new("pyproject", problem));
    let document: Table = match text.parse() {
        Ok(document) => document,
        Err(error) => return fail(format!("is no TOML: {error}").trim_end().to_owned()),
    };
    let Some(project) = document.get("project").and_then(Value::as_table) else {
        return fail("has no [project] table, where the dependencies would stand".into());
    };
    let dynamic = project.get("dynamic").and_then(Value::as_array);
    let dynamic = dynamic.is_some_and(|names| names.iter().any(|n| n.as_str() == Some("dependencies")));
    if dynamic && !has_lock {
        return fail(
            "its dependencies are dynamic, so only its build could tell them; list them, or give a uv.lock".into(),
        );
    }
    if let Some(dependencies) = project.get("dependencies") {
        let Some(dependencies) = dependencies.as_array() else {
            return fail("project.dependencies is not a list".into());
        };
        for (index, dependency) in dependencies.iter().enumerate() {
            let place = format!("pyproject project.dependencies[{index}]");
            match dependency.as_str() {
                // With a lock, what is installed is the lock's; that is checked on its own.
                Some(_) if has_lock => {}
                Some(text) => check_package(&place, text)?,
                None => return Err(InputError::new(place, "is not a string")),
            }
        }
    }
    let sources = document.get("tool").and_then(|tool| tool.get("uv")).and_then(|uv| uv.get("sources"));
    if sources.is_some() && !has_lock {
        return fail("has [tool.uv.sources]; run `uv lock` and give the uv.lock with it".into());
    }
    match project.get("requires-python") {
        None => Ok(None),
        Some(Value::String(wanted)) => Ok(Some(wanted.clone())),
        Some(_) => fail("project.requires-python is not a string".into()),
    }
}

/// Checks a uv.lock and returns what it says about Python.
pub fn check_uv_lock(text: &str) -> Result<Option<String>, InputError> {
    let fail = |problem: String| Err(InputError::new("uv.lock", problem));
    let document: Table = match text.parse() {
        Ok(document) => document,
        Err(error) => return fail(format!("is no TOML: {error}").trim_end().to_owned()),
    };
    let packages = match document.get("package") {
        None => &[][..],
        Some(Value::Array(packages)) => packages,
        Some(_) => return fail("`package` is not a list".into()),
    };
    for package in packages {
        let name = package.get("name").and_then(Value::as_str).unwrap_or("?");
        let Some(source) = package.get("source").and_then(Value::as_table) else {
            continue;
        };
        for kind in ["path", "directory", "editable", "virtual"] {
            let Some(path) = source.get(kind) else {
                continue;
            };
            // "." is the project itself, which is not installed.
            if kind == "path" || path.as_str() != Some(".") {
                return fail(format!("takes `{name}` from a file or folder ({path}), which is not here"));
            }
        }
        let file = |address: &Value| address.as_str().is_some_and(|a| !is_web(a));
        if source.get("registry").is_some_and(file) {
            return fail(format!("takes `{name}` from a folder of packages, which is not here"));
        }
    }
    match document.get("requires-python") {
        None => Ok(None),
        Some(Value::String(wanted)) => Ok(Some(wanted.clone())),
        Some(_) => fail("requires-python is not a string".into()),
    }
}

fn is_web(address: &str) -> bool {
    address.starts_with("https://") || address.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_gives_its_python() {
        let text = "[project]\nname='x'\nversion='0'\nrequires-python='>=3.10'\ndependencies=['six']\n[tool.uv]\nindex-url='https://host'\n";
        assert_eq!(check_pyproject(text, false), Ok(Some(">=3.10".into())));
        assert_eq!(check_pyproject("[project]\nname='x'", false), Ok(None));
    }

    #[test]
    fn a_project_that_needs_its_folder_is_refused() {
        for (text, word) in [
            ("[project", "TOML"),
            ("[tool.poetry]\nname='x'", "[project]"),
            ("[project]\ndynamic=['dependencies']", "dynamic"),
            ("[project]\ndependencies='six'", "not a list"),
            ("[project]\ndependencies=[1]", "dependencies[0]"),
            ("[project]\ndependencies=['six', 'x @ file:///x']", "dependencies[1]"),
            ("[project]\ndependencies=['x']\n[tool.uv.sources]\nx={path='../x'}", "sources"),
        ] {
            let error = check_pyproject(text, false).expect_err(text);
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_lock_may_name_the_project_but_no_other_folder() {
        let project = "version=1\nrequires-python='>=3.11'\n[[package]]\nname='x'\nsource={virtual='.'}\n[[package]]\nname='six'\nsource={registry='https://host/simple'}\n";
        assert_eq!(check_uv_lock(project), Ok(Some(">=3.11".into())));
        for source in ["{path='x.whl'}", "{directory='../y'}", "{editable='/y'}", "{registry='/wheels'}"] {
            let text = format!("[[package]]\nname='y'\nsource={source}\n");
            let error = check_uv_lock(&text).expect_err(source);
            assert!(error.to_string().contains("`y`"), "{error}");
        }
    }
}
