//! Finds what a person means: the beginning of a run's id, or a job's name for its newest run.

use dure_client::Client;
use dure_types::{
    Code, Name,
    id::is_run_prefix,
    run::{Run, RunKind, RunQuery},
    spec::parse::nearest,
};

use crate::{exit::CliError, hint, messages};

/// The run by its id or the beginning of it; else the newest of the job with that name.
pub async fn run(client: &Client, text: &str) -> Result<Run, CliError> {
    // `job/train-digits` as `dure show` writes it.
    let (text, named) = match text.split_once('/') {
        Some(("job", name)) => (name, true),
        Some(("run", id)) => (id, false),
        _ => (text, false),
    };
    if is_run_prefix(text) && !named {
        match client.get_run(text).await {
            Ok(detail) => return Ok(detail.run),
            // A job may be called `cafe`.
            Err(error) if error.is(Code::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut found = newest(client, text, Some(RunKind::Job)).await?;
    if found.is_none() && !named {
        // An environment's build or a service's replica.
        found = newest(client, text, None).await?;
    }
    match found {
        Some(run) => Ok(run),
        None => {
            let query = RunQuery { kind: Some(RunKind::Job), limit: Some(LOOKED_AT), ..RunQuery::default() };
            let runs = client.list_runs(&query).await?.items;
            let next = match nearest(text, runs.iter().map(|run| run.name.as_str())) {
                Some(near) => messages::did_you_mean_or(near, hint::ps_all()),
                None => hint::ps_all(),
            };
            Err(CliError::not_found(messages::no_run(text), next))
        }
    }
}

/// Among so many of the newest runs the name that was meant is looked for.
const LOOKED_AT: u32 = 200;

/// The newest run of this name.
pub async fn newest(client: &Client, name: &str, kind: Option<RunKind>) -> Result<Option<Run>, CliError> {
    if Name::new(name).is_err() {
        return Ok(None);
    }
    let query = RunQuery { name: Some(name.to_owned()), kind, limit: Some(1), ..RunQuery::default() };
    Ok(client.list_runs(&query).await?.items.into_iter().next())
}
