//! Plan and apply: what a file would change, and the change itself. Both look at the same; apply then
//! writes everything in one transaction.

mod job;
mod service;
mod view;

use dure_plan::permission::Caller;
use dure_store::{NewRun, RunRow, Scope, StoreError, Tx, service::NewRevision};
use dure_types::{
    Code, Digest, Name, RunId,
    change::{Change, ChangeAction, ChangeRequest, ChangeSet, Document},
    environment::EnvironmentInput,
    spec::Kind,
};

pub(crate) use self::{
    job::new_run,
    view::{View, missing_manifest},
};
use crate::{
    api::nearest,
    controllers::submit::{Needs, build_size, ensure_environments},
    core::Core,
    error::{ApiError, ApiResult},
    serving,
};

/// A change with what carries it out.
pub(crate) struct Step {
    pub change: Change,
    pub act: Act,
}

pub(crate) enum Act {
    Nothing,
    Dataset { name: Name, manifest: Digest, files: u64, bytes: u64 },
    Environment { name: Name, input: EnvironmentInput },
    Run { run: Box<NewRun>, environment: Option<EnvironmentInput> },
    Service { name: Name, revision: NewRevision },
}

/// What these documents would change.
pub async fn plan(core: &Core, scope: &Scope, request: &ChangeRequest) -> ApiResult<ChangeSet> {
    let steps = look(core, scope, request).await?;
    Ok(ChangeSet { changes: steps.into_iter().map(|step| step.change).collect() })
}

/// Changes it: all of it, or nothing.
pub async fn apply(core: &Core, scope: &Scope, request: &ChangeRequest) -> ApiResult<ChangeSet> {
    let _one_at_a_time = core.changes.lock().await;
    let steps = look(core, scope, request).await?;
    let (mut changes, acts): (Vec<_>, Vec<_>) = steps.into_iter().map(|step| (step.change, step.act)).unzip();
    let (scope_of_write, sizes) = (scope.clone(), build_size(core));
    let written =
        core.store.write(move |tx| Box::pin(async move { carry_out(tx, &scope_of_write, acts, sizes).await })).await?;
    for (change, made) in changes.iter_mut().zip(&written.made) {
        change.version = made.version.or(change.version);
        change.run = made.run.clone().or(change.run.clone());
    }
    core.runs.submitted(written.runs.into_iter().map(RunRow::from).collect());
    for service in changes.iter().filter(|change| change.kind == Kind::Service && change.action != ChangeAction::Keep) {
        core.services.changed(scope.project.clone(), service.name.clone());
    }
    Ok(ChangeSet { changes })
}

#[derive(Default)]
struct Made {
    version: Option<u32>,
    run: Option<RunId>,
}

struct Written {
    made: Vec<Made>,
    runs: Vec<NewRun>,
}

async fn carry_out(
    tx: &mut Tx,
    scope: &Scope,
    acts: Vec<Act>,
    sizes: (dure_types::Cpu, dure_types::Memory),
) -> Result<Written, StoreError> {
    let mut made = Vec::with_capacity(acts.len());
    let mut runs: Vec<NewRun> = Vec::new();
    let mut needs: Needs = Vec::new();
    for act in acts {
        let mut result = Made::default();
        match act {
            Act::Nothing => {}
            Act::Dataset { name, manifest, files, bytes } => {
                result.version = Some(tx.create_dataset_version(scope, &name, &manifest, files, bytes).await?.0);
            }
            Act::Environment { name, input } => {
                tx.declare_environment(scope, Some(&name), &input.digest(), &input).await?;
                needs.push((Some(name), input));
            }
            Act::Run { run, environment } => {
                result.run = Some(run.id.clone());
                if let Some(input) = environment {
                    needs.push((None, input));
                }
                runs.push(*run);
            }
            Act::Service { name, revision } => {
                result.version = Some(tx.upsert_service(scope, &name, &revision).await?);
                needs.push((None, serving::input()));
            }
        }
        made.push(result);
    }
    // Builds come first in the queue, so that what waits for them waits as short as it can.
    let needs = merge(needs);
    let mut all = ensure_environments(tx, scope, &needs, sizes).await?;
    all.extend(runs);
    tx.insert_runs(&all).await?;
    Ok(Written { made, runs: all })
}

/// The same environment, wanted by name and without, is one and keeps its name.
fn merge(needs: Needs) -> Needs {
    let mut merged: Needs = Vec::new();
    for (name, input) in needs {
        match merged.iter_mut().find(|(_, there)| there.digest() == input.digest()) {
            Some((there, _)) => *there = there.take().or(name),
            None => merged.push((name, input)),
        }
    }
    merged
}

async fn look(core: &Core, scope: &Scope, request: &ChangeRequest) -> ApiResult<Vec<Step>> {
    if request.documents.len() > MOST_DOCUMENTS {
        return Err(ApiError::new(Code::RequestTooLarge, format!("more than {MOST_DOCUMENTS} documents at once")));
    }
    let mut view = View::new(core, scope, request.rerun);
    let mut ordered: Vec<(usize, &Document)> = request.documents.iter().enumerate().collect();
    ordered.sort_by_key(|(_, document)| kind_of(document));
    let mut steps: Vec<(usize, Step)> = Vec::with_capacity(ordered.len());
    for (place, document) in ordered {
        let step = match document {
            Document { dataset: Some(document), environment: None, job: None, service: None } => {
                view.dataset(document).await?
            }
            Document { environment: Some(document), dataset: None, job: None, service: None } => {
                view.environment(document).await?
            }
            Document { job: Some(document), dataset: None, environment: None, service: None } => {
                view.job(document).await?
            }
            Document { service: Some(spec), dataset: None, environment: None, job: None } => view.service(spec).await?,
            _ => {
                let detail =
                    format!("document {} has not exactly one of dataset, environment, job, service", place + 1);
                return Err(ApiError::new(Code::RequestInvalid, detail));
            }
        };
        if steps.iter().any(|(_, other)| other.change.kind == step.change.kind && other.change.name == step.change.name)
        {
            let detail = format!("{} `{}` stands in it twice", step.change.kind.as_str(), step.change.name);
            return Err(ApiError::new(Code::SpecDuplicate, detail));
        }
        steps.push((place, step));
    }
    // What makes others comes before what uses it; that is also the order in which people read it.
    Ok(steps.into_iter().map(|(_, step)| step).collect())
}

const MOST_DOCUMENTS: usize = 1000;

fn kind_of(document: &Document) -> Option<Kind> {
    match document {
        Document { dataset: Some(_), .. } => Some(Kind::Dataset),
        Document { environment: Some(_), .. } => Some(Kind::Environment),
        Document { job: Some(_), .. } => Some(Kind::Job),
        Document { service: Some(_), .. } => Some(Kind::Service),
        _ => None,
    }
}

/// In whose name something is written now.
pub(crate) fn scope(core: &Core, caller: &Caller, project: &Name) -> Scope {
    Scope { domain: caller.domain.clone(), project: project.clone(), actor: caller.user.to_string(), at: core.now() }
}

/// A reference to something that is not there, with where to look.
pub(crate) async fn no_such(view: &View<'_>, kind: &str, name: &Name, reference: impl std::fmt::Display) -> ApiError {
    let next = nearest::next_step(view.core, &view.scope.project, kind, name.as_str()).await;
    ApiError::new(Code::NotFound, format!("there is no {kind} `{reference}` in this project")).next(next)
}
