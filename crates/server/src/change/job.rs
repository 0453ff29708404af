//! A job: is it the same as one that ran, and what would it read?

use dure_plan::{identity, price::Ask, why};
use dure_store::{NewRun, RunRow, Scope};
use dure_types::{
    Code, RunId,
    change::{ChangeAction, JobDocument},
    environment::EnvironmentInput,
    run::{RunKind, RunState},
    spec::{EnvironmentUse, JobSpec, Kind, OutputKind, parse::expand_parameters},
};

use super::{
    Act, Step,
    view::{View, change, check_environment, missing_manifest},
};
use crate::{
    error::{ApiError, ApiResult},
    work::{Input, InputKind, Work},
};

impl View<'_> {
    pub async fn job(&mut self, document: &JobDocument) -> ApiResult<Step> {
        let (new, environment) = new_run(self, document).await?;
        let spec = &document.spec;
        let identity = new.identity.clone().unwrap_or_default();
        let before = self.core.store.runs_by_identity(&self.scope.project, &identity).await?;
        let (action, run) = if self.rerun { (ChangeAction::Create, None) } else { decide(&before) };
        let maker = run.clone().filter(|_| action == ChangeAction::Keep).unwrap_or_else(|| new.id.clone());
        let over = before.iter().any(|row| row.id == maker && row.state == RunState::Succeeded);
        if !over {
            for (_, output) in spec.outputs.iter().filter(|(kind, _)| *kind == OutputKind::Model) {
                self.makers.insert(output.name.clone(), (maker.clone(), spec.name.clone()));
            }
        }
        let ask = ask(spec);
        let mut step = Step {
            change: change(Kind::Job, &spec.name, action, why::describe(&ask), differences(action, &before), None),
            act: Act::Nothing,
        };
        step.change.run = run;
        if action != ChangeAction::Keep {
            step.change.placement = Some(self.placement(&spec.name, RunKind::Job, &ask).await?);
            step.act = Act::Run { run: Box::new(new), environment };
        }
        Ok(step)
    }
}

/// A run of this identity that is going on or succeeded stands for it; one that failed is tried again.
fn decide(before: &[RunRow]) -> (ChangeAction, Option<RunId>) {
    let stands = before.iter().find(|run| matches!(run.state, RunState::Succeeded) || !run.state.is_over());
    match (stands, before.first()) {
        (Some(run), _) => (ChangeAction::Keep, Some(run.id.clone())),
        (None, Some(last)) => (ChangeAction::Retry, Some(last.id.clone())),
        (None, None) => (ChangeAction::Create, None),
    }
}

fn differences(action: ChangeAction, before: &[RunRow]) -> Vec<String> {
    match (action, before.first()) {
        (ChangeAction::Retry, Some(last)) => {
            let reason = last.reason.as_ref().map_or("", |reason| reason.message.as_str());
            vec![format!("run {} {}: {reason}", last.id.short(), last.state.as_str())]
        }
        _ => Vec::new(),
    }
}

fn ask(spec: &JobSpec) -> Ask {
    Ask { cpu_milli: spec.resources.cpu.milli(), memory_bytes: spec.resources.memory.bytes(), gpus: spec.resources.gpu }
}

/// Whether a job's fields make sense together; the CLI says the same with line and column.
fn check_job(spec: &JobSpec) -> ApiResult<()> {
    let wrong = |detail: String| Err(ApiError::new(Code::SpecValue, format!("job {}: {detail}", spec.name)));
    if spec.command.trim().is_empty() || spec.command.contains('\0') {
        return wrong("command is empty or has a NUL in it".to_owned());
    }
    if let Err(error) = expand_parameters(&spec.command, &spec.parameters) {
        return wrong(error);
    }
    for (name, value) in &spec.env {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if name.is_empty() || !plain || name.starts_with(|first: char| first.is_ascii_digit()) || value.contains('\0') {
            return wrong(format!("env: `{name}` is not a name for a variable, or its value has a NUL in it"));
        }
        if name.starts_with("DURE_") {
            return wrong(format!("env: {name} is set by Dure itself"));
        }
    }
    let mut seen = std::collections::HashSet::new();
    for (kind, output) in spec.outputs.iter() {
        if output.path != "." && !dure_types::blob::is_inner_path(&output.path) {
            return wrong(format!("outputs: `{}` is not a path inside $DURE_OUTPUT", output.path));
        }
        if !seen.insert((kind, &output.name)) {
            return wrong(format!("outputs: {} `{}` stands in it twice", kind.as_str(), output.name));
        }
    }
    Ok(())
}

/// The run that a job's document makes, and the environment that it needs.
pub(crate) async fn new_run(view: &View<'_>, document: &JobDocument) -> ApiResult<(NewRun, Option<EnvironmentInput>)> {
    let spec = &document.spec;
    check_job(spec)?;
    let environment = environment(view, document).await?;
    if let Some(code) = &document.code {
        view.core.store.manifest(&view.scope.project, code).await.map_err(missing_manifest)?;
    }
    let mut inputs = Vec::with_capacity(spec.data.len());
    for (at, reference) in &spec.data {
        let (version, manifest) = view.resolve_dataset(reference).await?;
        inputs.push(Input {
            kind: InputKind::Dataset,
            at: at.clone(),
            name: reference.name.clone(),
            version,
            manifest,
        });
    }
    let data: Vec<_> = inputs.iter().map(|input| format!("{}={}", input.at, input.manifest)).collect();
    let digest = environment.as_ref().map(EnvironmentInput::digest);
    let identity = identity::of_job(spec, document.code.as_ref(), digest.as_ref(), &data);
    let scope: Scope = view.scope.clone();
    let run = NewRun {
        id: RunId::random().map_err(ApiError::internal)?,
        scope,
        kind: RunKind::Job,
        name: spec.name.clone(),
        spec: serde_json::to_value(Work::Job(Box::new(spec.clone()))).map_err(ApiError::internal)?,
        identity: Some(identity.to_string()),
        code: document.code.clone(),
        environment: digest,
        datasets: inputs.iter().map(|input| (input.name.clone(), input.version)).collect(),
        inputs: serde_json::to_value(&inputs).map_err(ApiError::internal)?,
        waits_for: Vec::new(),
        service: None,
        cpu: spec.resources.cpu,
        memory: spec.resources.memory,
        gpu: spec.resources.gpu,
        timeout: spec.timeout,
        retries: spec.retries,
    };
    Ok((run, environment))
}

async fn environment(view: &View<'_>, document: &JobDocument) -> ApiResult<Option<EnvironmentInput>> {
    match (&document.spec.environment, &document.environment) {
        (Some(EnvironmentUse::Named(name)), _) => view.named_environment(name).await.map(Some),
        (Some(EnvironmentUse::Inline(_)), Some(input)) => {
            check_environment(input)?;
            Ok(Some(input.clone()))
        }
        (Some(EnvironmentUse::Inline(_)), None) => {
            Err(ApiError::new(Code::RequestInvalid, "the inline environment's content is missing (environment)"))
        }
        (None, _) => Ok(None),
    }
}
