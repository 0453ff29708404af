//! What the types cannot say by themselves.

use std::collections::HashSet;

use super::{
    super::{EnvironmentUse, JobSpec, Spec},
    Located, SpecError,
    error::{Mark, short},
    parameters, typed,
};
use crate::{blob::is_inner_path, problem::Code};

/// A spec's file and command are kept in a row; nobody writes a longer one by hand.
const LONGEST_COMMAND: usize = 64 << 10;

pub fn first_fault(located: &Located) -> Option<SpecError> {
    match &located.spec {
        Spec::Dataset(dataset) => folder(located, "source", &dataset.source),
        Spec::Environment(environment) => {
            let given = given(&environment.packages, &environment.requirements, &environment.pyproject);
            one_source(located, &[], given)
        }
        Spec::Job(job) => {
            if let Some(EnvironmentUse::Inline(inline)) = &job.environment {
                let given = given(&inline.packages, &inline.requirements, &inline.pyproject);
                one_source(located, &["environment"], given).or_else(|| check_job(located, job))
            } else {
                check_job(located, job)
            }
        }
        Spec::Service(service) if !(1..=100).contains(&service.replicas) => {
            Some(fault(located, &["replicas"], format!("replicas: {} is not from 1 to 100", service.replicas)))
        }
        Spec::Service(_) => None,
    }
}

fn fault(located: &Located, path: &[&str], message: impl Into<String>) -> SpecError {
    with_hint(located, path, located.error(Code::SpecValue, path, message))
}

fn with_hint(located: &Located, path: &[&str], fault: SpecError) -> SpecError {
    fault.hint(typed::hint(located.spec.kind(), &path[..path.len().saturating_sub(1)]))
}

fn given<'a>(
    packages: &[String],
    requirements: &'a Option<String>,
    pyproject: &'a Option<String>,
) -> [(&'static str, bool, Option<&'a str>); 3] {
    [
        ("packages", !packages.is_empty(), None),
        ("requirements", requirements.is_some(), requirements.as_deref()),
        ("pyproject", pyproject.is_some(), pyproject.as_deref()),
    ]
}

/// Exactly one of packages, requirements and pyproject.
fn one_source(
    located: &Located,
    path: &[&'static str],
    given: [(&'static str, bool, Option<&str>); 3],
) -> Option<SpecError> {
    let names: Vec<_> = given.iter().filter(|(_, there, _)| *there).map(|(name, ..)| *name).collect();
    let at = |name: &'static str| path.iter().copied().chain([name]).collect::<Vec<_>>();
    match names.as_slice() {
        [] => {
            let path = at("packages");
            let message = "an environment needs one of packages, requirements or pyproject";
            Some(with_hint(located, &path, located.error(Code::SpecMissing, &path, message)))
        }
        [_] => {
            let empty = given.iter().find(|(_, _, text)| text.is_some_and(|text| text.trim().is_empty()))?;
            Some(fault(located, &at(empty.0), format!("{} names no file", empty.0)))
        }
        [first, second, ..] => {
            let path = at(second);
            let message = format!(
                "`{first}` and `{second}` exclude each other: an environment has one of packages, requirements and pyproject"
            );
            let mark = located.root.nearest(&path[..path.len() - 1]).key(second);
            let mark = mark.unwrap_or_else(|| located.root.nearest(&path).mark());
            Some(with_hint(located, &path, located.source.error(Code::SpecValue, mark, message)))
        }
    }
}

fn folder(located: &Located, field: &'static str, path: &str) -> Option<SpecError> {
    if path.trim().is_empty() {
        Some(fault(located, &[field], format!("{field} names no folder; `.` is the spec's own")))
    } else if path.contains('\0') {
        Some(fault(located, &[field], format!("{field} is not a path")))
    } else {
        None
    }
}

fn check_job(located: &Located, job: &JobSpec) -> Option<SpecError> {
    if job.command.trim().is_empty() {
        return Some(fault(located, &["command"], "the command is empty"));
    }
    if job.command.len() > LONGEST_COMMAND || job.command.contains('\0') {
        let message =
            format!("a command is text of up to {} KiB; put the rest into a file of `code`", LONGEST_COMMAND >> 10);
        return Some(fault(located, &["command"], message));
    }
    if let Some(code) = &job.code
        && let Some(fault) = folder(located, "code", code)
    {
        return Some(fault);
    }
    environment_variables(located, job).or_else(|| command_parameters(located, job)).or_else(|| outputs(located, job))
}

fn environment_variables(located: &Located, job: &JobSpec) -> Option<SpecError> {
    job.env.iter().find_map(|(name, value)| {
        let message = if !is_variable(name) {
            format!("`{}` is not the name of an environment variable", short(name))
        } else if name.starts_with("DURE_") {
            format!("`{name}`: names that begin with DURE_ are Dure's own")
        } else if value.contains('\0') {
            format!("the value of `{name}` holds a NUL byte")
        } else {
            return None;
        };
        let mark = located.root.nearest(&["env"]).key(name).unwrap_or_else(|| located.root.nearest(&["env"]).mark());
        Some(with_hint(located, &["env", "NAME"], located.source.error(Code::SpecValue, mark, message)))
    })
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn command_parameters(located: &Located, job: &JobSpec) -> Option<SpecError> {
    let reference = match parameters::unknown(&job.command, &job.parameters) {
        Some(reference) => reference,
        None => {
            let message = parameters::expand_parameters(&job.command, &job.parameters).err()?;
            return Some(fault(located, &["command"], message));
        }
    };
    let mark = located.root.nearest(&["command"]).mark();
    let written = located.source.text.get(mark.start..mark.end).unwrap_or_default();
    let mark = match written.find(reference.written) {
        Some(at) => Mark { start: mark.start + at, end: mark.start + at + reference.written.len() },
        None => mark,
    };
    let message = format!("`{}` names no parameter", short(reference.written));
    let nearest = super::nearest(reference.name, job.parameters.keys().map(String::as_str));
    let fault = located.source.error(Code::SpecValue, mark, message);
    let fault = fault.suggest(nearest.map(|name| format!("${{parameters.{name}}}")));
    Some(with_hint(located, &["parameters", "NAME"], fault))
}

fn outputs(located: &Located, job: &JobSpec) -> Option<SpecError> {
    let mut seen = HashSet::new();
    for (kind, outputs) in
        [("model", &job.outputs.model), ("dataset", &job.outputs.dataset), ("files", &job.outputs.files)]
    {
        for (index, output) in outputs.0.iter().enumerate() {
            let index = index.to_string();
            if output.path != "." && !is_inner_path(&output.path) {
                let message = format!("`{}` is not a path inside $DURE_OUTPUT", short(&output.path));
                return Some(fault(located, &["outputs", kind, &index, "path"], message));
            }
            if !seen.insert((kind, &output.name)) {
                let path = ["outputs", kind, &index, "name"];
                let message = format!("two outputs of kind {kind} are called `{}`", output.name);
                return Some(with_hint(located, &path, located.error(Code::SpecDuplicate, &path, message)));
            }
        }
    }
    None
}
