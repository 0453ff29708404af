//! What there is, and what earlier documents of the same file add to it.

use std::collections::HashMap;

use dure_plan::{price, why};
use dure_store::{Scope, StoreError};
use dure_types::{
    Code, Digest, Name, Reference, RunId, Selector,
    change::{Change, ChangeAction, DatasetDocument, EnvironmentDocument, Placement},
    environment::{EnvironmentInput, EnvironmentState},
    run::RunKind,
    spec::Kind,
};

use super::{Act, Step};
use crate::{
    core::Core,
    error::{ApiError, ApiResult},
};

pub(crate) struct View<'a> {
    pub core: &'a Core,
    pub scope: &'a Scope,
    pub rerun: bool,
    /// New versions of datasets in this file: version and manifest.
    datasets: HashMap<Name, (u32, Digest)>,
    environments: HashMap<Name, EnvironmentInput>,
    /// Models that runs of this file will make, by the run and job that makes each.
    pub makers: HashMap<Name, (RunId, Name)>,
}

impl<'a> View<'a> {
    pub fn new(core: &'a Core, scope: &'a Scope, rerun: bool) -> Self {
        Self { core, scope, rerun, datasets: HashMap::new(), environments: HashMap::new(), makers: HashMap::new() }
    }

    pub async fn dataset(&mut self, document: &DatasetDocument) -> ApiResult<Step> {
        let (store, project) = (&self.core.store, &self.scope.project);
        let name = &document.spec.name;
        let manifest = store.manifest(project, &document.manifest).await.map_err(missing_manifest)?;
        let latest = Reference { name: name.clone(), selector: Selector::latest() };
        let current = found(store.resolve_dataset(project, &latest).await)?;
        let (files, bytes) = (manifest.files.len() as u64, manifest.size());
        let (action, version) = match &current {
            None => (ChangeAction::Create, 1),
            Some(current) if current.manifest == document.manifest => (ChangeAction::Keep, current.version),
            Some(current) => (ChangeAction::Update, current.version + 1),
        };
        self.datasets.insert(name.clone(), (version, document.manifest.clone()));
        let differences = match (&current, action) {
            (Some(current), ChangeAction::Update) => {
                vec![format!("files: {name}@{} -> {name}@{version}", current.version)]
            }
            _ => Vec::new(),
        };
        let act = match action {
            ChangeAction::Keep => Act::Nothing,
            _ => Act::Dataset { name: name.clone(), manifest: document.manifest.clone(), files, bytes },
        };
        let summary = format!("{files} {}, {}", if files == 1 { "file" } else { "files" }, size(bytes));
        Ok(Step { change: change(Kind::Dataset, name, action, summary, differences, Some(version)), act })
    }

    pub async fn environment(&mut self, document: &EnvironmentDocument) -> ApiResult<Step> {
        check_environment(&document.input)?;
        let (store, project) = (&self.core.store, &self.scope.project);
        let (name, digest) = (&document.name, document.input.digest());
        let named = found(store.environment(project, name.as_str()).await)?;
        let same = found(store.environment(project, digest.as_str()).await)?;
        self.environments.insert(name.clone(), document.input.clone());
        let action = match &named {
            None => ChangeAction::Create,
            Some(named) if named.digest != digest => ChangeAction::Update,
            Some(named) => match named.state {
                EnvironmentState::Ready | EnvironmentState::Building => ChangeAction::Keep,
                EnvironmentState::Failed => ChangeAction::Retry,
                EnvironmentState::Declared => ChangeAction::Create,
            },
        };
        let summary = match same.filter(|same| same.state == EnvironmentState::Ready) {
            Some(ready) => format!(
                "python {}, {} packages locked",
                ready.python.as_deref().unwrap_or("of this machine"),
                ready.packages.len()
            ),
            None => asked(&document.input),
        };
        let act = match action {
            ChangeAction::Keep => Act::Nothing,
            _ => Act::Environment { name: name.clone(), input: document.input.clone() },
        };
        let failure = named.filter(|_| action == ChangeAction::Retry).and_then(|named| named.error);
        let differences = failure.map(|error| format!("failed: {error}")).into_iter().collect();
        Ok(Step { change: change(Kind::Environment, name, action, summary, differences, None), act })
    }

    /// The input of an environment that a job names.
    pub async fn named_environment(&self, name: &Name) -> ApiResult<EnvironmentInput> {
        if let Some(input) = self.environments.get(name) {
            return Ok(input.clone());
        }
        match found(self.core.store.environment(&self.scope.project, name.as_str()).await)? {
            Some(environment) => Ok(environment.input),
            None => Err(super::no_such(self, "environment", name, name).await),
        }
    }

    /// The version and manifest of a dataset that a job names.
    pub async fn resolve_dataset(&self, reference: &Reference) -> ApiResult<(u32, Digest)> {
        if let Some((version, manifest)) = self.datasets.get(&reference.name)
            && (reference.selector.is_latest() || reference.selector == Selector::Version(*version))
        {
            return Ok((*version, manifest.clone()));
        }
        match found(self.core.store.resolve_dataset(&self.scope.project, reference).await)? {
            Some(dataset) => Ok((dataset.version, dataset.manifest)),
            None => Err(super::no_such(self, "dataset", &reference.name, reference).await),
        }
    }

    /// Where something of this size would go, what it costs there and why; an error where it can never run.
    pub async fn placement(&self, name: &Name, kind: RunKind, ask: &price::Ask) -> ApiResult<Placement> {
        let node = &self.core.node;
        let durations = self.core.store.recent_durations(&self.scope.project, name, kind, 5).await?;
        let mut seconds: Vec<f64> = durations.iter().map(std::time::Duration::as_secs_f64).collect();
        seconds.sort_by(f64::total_cmp);
        let schedule = self.core.schedule();
        if let Some((detail, next)) = why::never_fits(&schedule, ask) {
            return Err(ApiError::new(Code::NeverFits, format!("{name}: {detail}")).next(next));
        }
        let free = schedule.machines().get(&node.name).map(dure_plan::schedule::Machine::free).unwrap_or_default();
        let waits = (!dure_plan::schedule::fits(ask, &free))
            .then(|| format!("waits for {}: others hold it (dure ps)", why::describe(ask)));
        let machines = schedule.machines().len();
        Ok(Placement {
            node: node.name.clone(),
            per_hour: price::share_rate(node.rate.per_hour, &node.facts, ask),
            rate_note: if node.rate.assumed { "your hardware, assumed rate" } else { "your hardware, your rate" }
                .to_owned(),
            why: if machines == 1 { "the only node" } else { "the fullest node that it fits on" }.to_owned(),
            seconds: seconds.get(seconds.len() / 2).copied(),
            from_runs: u32::try_from(seconds.len()).unwrap_or(u32::MAX),
            waits,
        })
    }
}

/// Refuses what no build could make, before anything is written.
pub(crate) fn check_environment(input: &EnvironmentInput) -> ApiResult<()> {
    dure_image::validate(input).map_err(|error| ApiError::new(Code::SpecValue, format!("environment: {error}")))
}

pub(crate) fn found<T>(result: Result<T, StoreError>) -> ApiResult<Option<T>> {
    match result {
        Ok(there) => Ok(Some(there)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn missing_manifest(error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound { .. } => ApiError::new(Code::BlobMissing, "its files were not uploaded to this project")
            .next("upload them and create the manifest first (dure apply does both)"),
        error => error.into(),
    }
}

pub(super) fn change(
    kind: Kind,
    name: &Name,
    action: ChangeAction,
    summary: String,
    differences: Vec<String>,
    version: Option<u32>,
) -> Change {
    Change { kind, name: name.clone(), action, summary, differences, placement: None, version, run: None }
}

fn asked(input: &EnvironmentInput) -> String {
    let what = match input {
        EnvironmentInput { requirements: Some(_), .. } => "a requirements file".to_owned(),
        EnvironmentInput { uv_lock: Some(_), .. } => "a pyproject with its uv.lock".to_owned(),
        EnvironmentInput { pyproject: Some(_), .. } => "a pyproject".to_owned(),
        _ => match input.packages.len() {
            1 => "1 package asked for".to_owned(),
            count => format!("{count} packages asked for"),
        },
    };
    let python =
        input.python.as_ref().map_or_else(|| "the newest python here".to_owned(), |python| format!("python {python}"));
    format!("{python}, {what}, locked when it is built")
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}
