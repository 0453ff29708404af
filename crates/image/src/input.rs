//! Whether an environment can be built at all from what it is described as.

use dure_types::environment::EnvironmentInput;

use crate::error::InputError;
use crate::interpreter::Wanted;
use crate::pyproject::{check_pyproject, check_uv_lock};
use crate::requirements::{Requirements, check_package, parse_requirements};

const MOST_PACKAGES: usize = 1_000;
const LARGEST_FILE: usize = 4 << 20;

/// An input that was looked through: what is left to do.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub source: Source,
    pub wanted: Wanted,
}

#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// Package lines, to be resolved. `options` are the requirements file's own.
    Loose {
        options: Vec<String>,
        lines: Vec<String>,
        names_index: bool,
    },
    /// A requirements file with a hash on every line, to be used as it is.
    Locked {
        text: String,
        names_index: bool,
    },
    Pyproject {
        text: String,
    },
    UvLock {
        pyproject: String,
        lock: String,
    },
}

/// Says what is wrong with a description, without running anything.
pub fn validate(input: &EnvironmentInput) -> Result<(), InputError> {
    check(input).map(drop)
}

pub(crate) fn check(input: &EnvironmentInput) -> Result<Checked, InputError> {
    for (place, text) in
        [("requirements", &input.requirements), ("pyproject", &input.pyproject), ("uv.lock", &input.uv_lock)]
    {
        if text.as_ref().is_some_and(|text| text.len() > LARGEST_FILE) {
            return Err(InputError::new(place, "is larger than 4 MiB"));
        }
    }
    let mut wanted = Wanted::default();
    if let Some(python) = &input.python {
        wanted.add("python", python)?;
    }
    let source = match (&input.requirements, &input.pyproject, &input.uv_lock) {
        (None, None, None) => of_packages(&input.packages)?,
        (Some(_), Some(_), _) => {
            return Err(InputError::new("environment", "has both `requirements` and `pyproject`; give one"));
        }
        (None | Some(_), None, Some(_)) => {
            return Err(InputError::new("environment", "has a uv.lock without the pyproject.toml that it belongs to"));
        }
        _ if !input.packages.is_empty() => {
            return Err(InputError::new(
                "environment",
                "has `packages` beside a file of packages; put them into the file",
            ));
        }
        (Some(text), None, None) => of_requirements(text)?,
        (None, Some(text), lock) => of_pyproject(text, lock.as_deref(), &mut wanted)?,
    };
    Ok(Checked { source, wanted })
}

fn of_packages(packages: &[String]) -> Result<Source, InputError> {
    if packages.len() > MOST_PACKAGES {
        return Err(InputError::new("packages", format!("more than {MOST_PACKAGES}")));
    }
    for (index, package) in packages.iter().enumerate() {
        check_package(&format!("packages[{index}]"), package)?;
    }
    Ok(Source::Loose {
        options: Vec::new(),
        lines: packages.iter().map(|package| package.trim().to_owned()).collect(),
        names_index: false,
    })
}

fn of_requirements(text: &str) -> Result<Source, InputError> {
    let Requirements { options, lines, locked, names_index } = parse_requirements(text)?;
    Ok(if locked {
        Source::Locked { text: text.to_owned(), names_index }
    } else {
        Source::Loose { options, lines, names_index }
    })
}

fn of_pyproject(text: &str, lock: Option<&str>, wanted: &mut Wanted) -> Result<Source, InputError> {
    if let Some(python) = check_pyproject(text, lock.is_some())? {
        wanted.add("pyproject requires-python", &python)?;
    }
    let Some(lock) = lock else {
        return Ok(Source::Pyproject { text: text.into() });
    };
    if let Some(python) = check_uv_lock(lock)? {
        wanted.add("uv.lock requires-python", &python)?;
    }
    Ok(Source::UvLock { pyproject: text.into(), lock: lock.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(names: &[&str]) -> EnvironmentInput {
        EnvironmentInput {
            packages: names.iter().map(|&name| name.to_owned()).collect(),
            ..EnvironmentInput::default()
        }
    }

    #[test]
    fn the_identity_is_what_is_asked_for_and_not_its_order() {
        let one = packages(&["numpy", " six "]);
        assert_eq!(one.digest(), packages(&["six", "numpy"]).digest());
        assert_ne!(one.digest(), packages(&["six", "numpy>=2"]).digest());
        let mut other = one.clone();
        other.python = Some("3.12".into());
        assert_ne!(one.digest(), other.digest());
        // Pinned: a change would orphan every environment that was built.
        assert_eq!(
            EnvironmentInput::default().digest().as_str(),
            "1c9470d23860275cc5be3c61fb022710d8642bbfe45aef318b47c16bd2f164f7"
        );
    }

    #[test]
    fn one_source_of_packages_is_taken_and_two_are_refused() {
        assert_eq!(validate(&packages(&[])), Ok(()));
        let project = Some("[project]\nname='x'".to_owned());
        let cases = [
            ("give one", Some("six".to_owned()), project.clone(), None, vec![]),
            ("without the pyproject", None, None, Some(String::new()), vec![]),
            ("put them into", Some("six".to_owned()), None, None, vec!["six".to_owned()]),
            ("put them into", None, project, None, vec!["six".to_owned()]),
        ];
        for (word, requirements, pyproject, uv_lock, packages) in cases {
            let input = EnvironmentInput { packages, requirements, pyproject, uv_lock, python: None };
            let error = validate(&input).expect_err(word);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_bad_package_is_named_by_its_place() {
        let error = validate(&packages(&["six", "-r x"])).expect_err("refused");
        assert_eq!(error.place, "packages[1]");
    }
}
