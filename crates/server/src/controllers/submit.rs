//! How runs begin: written as queued, with the environments that they need and the runs that build those.

use dure_store::{NewRun, RunRow, Scope, StopRequest, StoreError, Tx};
use dure_types::{
    Cpu, Digest, Memory, Name, RunId,
    environment::{EnvironmentInput, EnvironmentState},
    run::RunKind,
    spec::Retries,
};

use crate::{core::Core, error::ApiError, work::Work};

/// A build compiles bytecode on two cores where that is no more than half of the machine: else one service would
/// hold up every build, and every build all that is queued behind it.
const BUILD_CPU: Cpu = Cpu::from_milli(2000);
const BUILD_MEMORY: Memory = Memory::from_bytes(2 << 30);

/// Environments that runs need, with their names where they have one.
pub type Needs = Vec<(Option<Name>, EnvironmentInput)>;

/// Writes runs as queued, with a build for each environment that is neither there nor being built, and tells
/// the controller. Returns all runs that were written.
pub async fn submit(core: &Core, new: Vec<NewRun>, needs: Needs) -> Result<Vec<RunRow>, ApiError> {
    let Some(first) = new.first() else { return Ok(Vec::new()) };
    let (scope, sizes) = (first.scope.clone(), build_size(core));
    let written = core
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut runs = ensure_environments(tx, &scope, &needs, sizes).await?;
                runs.extend(new);
                tx.insert_runs(&runs).await?;
                Ok(runs)
            })
        })
        .await?;
    let rows: Vec<RunRow> = written.into_iter().map(RunRow::from).collect();
    core.runs.submitted(rows.clone());
    Ok(rows)
}

pub fn build_size(core: &Core) -> (Cpu, Memory) {
    let facts = &core.node.facts;
    let cpu = BUILD_CPU.milli().min((facts.cpu_milli / 2).max(1000)).min(facts.cpu_milli);
    (Cpu::from_milli(cpu), Memory::from_bytes(BUILD_MEMORY.bytes().min(facts.memory_bytes / 2)))
}

/// Declares environments, and returns a build for each that needs one.
pub async fn ensure_environments(
    tx: &mut Tx,
    scope: &Scope,
    needs: &Needs,
    (cpu, memory): (Cpu, Memory),
) -> Result<Vec<NewRun>, StoreError> {
    let mut builds: Vec<NewRun> = Vec::new();
    for (name, input) in needs {
        let digest = input.digest();
        tx.declare_environment(scope, name.as_ref(), &digest, input).await?;
        let environment = tx.environment(&scope.project, digest.as_str()).await?;
        let waiting = builds.iter().any(|build| build.environment.as_ref() == Some(&digest));
        if waiting || matches!(environment.state, EnvironmentState::Ready | EnvironmentState::Building) {
            continue;
        }
        let build = new_build(scope, name.as_ref(), &digest, input, cpu, memory)?;
        let change = dure_store::environment::EnvironmentChange {
            state: EnvironmentState::Building,
            build: Some(build.id.clone()),
            python: None,
            packages: None,
            lock: None,
            error: None,
            at: scope.at,
        };
        tx.set_environment_state(&scope.project, &digest, &change).await?;
        builds.push(build);
    }
    Ok(builds)
}

fn new_build(
    scope: &Scope,
    name: Option<&Name>,
    digest: &Digest,
    input: &EnvironmentInput,
    cpu: Cpu,
    memory: Memory,
) -> Result<NewRun, StoreError> {
    let invalid = |error: String| StoreError::Invalid(error);
    let name = match name {
        Some(name) => name.clone(),
        None => Name::new(format!("environment-{}", digest.short())).map_err(|error| invalid(error.to_string()))?,
    };
    Ok(NewRun {
        id: RunId::random().map_err(|error| invalid(error.to_string()))?,
        scope: scope.clone(),
        kind: RunKind::Build,
        name,
        spec: serde_json::to_value(Work::Build(input.clone())).map_err(|error| invalid(error.to_string()))?,
        identity: None,
        code: None,
        environment: Some(digest.clone()),
        inputs: serde_json::Value::Array(Vec::new()),
        datasets: Vec::new(),
        waits_for: Vec::new(),
        service: None,
        cpu,
        memory,
        gpu: 0,
        timeout: None,
        retries: Retries { lost: 3, failed: 0 },
    })
}

/// Writes that a run is to stop and tells the controller.
pub async fn stop_run(core: &Core, run: RunId, request: StopRequest) -> Result<RunRow, ApiError> {
    let (id, wanted) = (run.clone(), request.clone());
    let row = core.store.write(move |tx| Box::pin(async move { tx.request_stop(&id, &wanted).await })).await?;
    core.runs.stop_requested(run, request);
    Ok(row)
}
