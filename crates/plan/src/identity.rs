//! What makes a job the same job: its spec, code, resolved dataset versions and environment by hash.

use dure_types::{Digest, spec::JobSpec};
use serde::Serialize;

/// Everything that a job's result depends on. The name is part of the spec, so that two jobs which
/// do the same under two names are two jobs; retries and timeout do not change a result and are not.
#[derive(Serialize)]
struct Identity<'a> {
    spec: JobSpec,
    code: Option<&'a Digest>,
    /// The environment's digest stands for its lock: one is resolved once.
    environment: Option<&'a Digest>,
    /// `name=manifest` of each dataset, so that the same files under another version are the same.
    data: &'a [String],
}

pub fn of_job(spec: &JobSpec, code: Option<&Digest>, environment: Option<&Digest>, data: &[String]) -> Digest {
    let mut spec = spec.clone();
    spec.retries = Default::default();
    spec.timeout = None;
    // Where these come from on somebody's disk, or how they are referred to, changes nothing:
    // the digests beside them say what they are.
    spec.code = None;
    spec.environment = None;
    spec.data.clear();
    Digest::of(&serde_json::to_vec(&Identity { spec, code, environment, data }).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(command: &str) -> JobSpec {
        serde_json::from_value(serde_json::json!({"name": "train", "command": command})).unwrap()
    }

    #[test]
    fn a_job_is_the_same_when_only_its_time_limit_or_folder_differs() {
        let one = job("true");
        let mut other = job("true");
        other.timeout = Some(dure_types::Span::from_secs(5));
        other.code = Some("elsewhere".to_owned());
        assert_eq!(of_job(&one, None, None, &[]), of_job(&other, None, None, &[]));
    }

    #[test]
    fn a_job_is_another_when_its_command_code_environment_or_data_differ() {
        let digest = Digest::of(b"x");
        let base = of_job(&job("true"), None, None, &[]);
        assert_ne!(base, of_job(&job("false"), None, None, &[]));
        assert_ne!(base, of_job(&job("true"), Some(&digest), None, &[]));
        assert_ne!(base, of_job(&job("true"), None, Some(&digest), &[]));
        assert_ne!(base, of_job(&job("true"), None, None, &["d=1".to_owned()]));
    }
}
