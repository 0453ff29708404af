//! From a run to the unit that an engine starts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dure_engine::{Blame, Mount, MountPoint, UnitSpec};
use dure_image::{BuildConfig, BuildRequest};
use dure_plan::lifecycle::End;
use dure_store::RunRow;
use dure_types::{
    Digest, RunId,
    spec::{JobSpec, parse::expand_parameters},
};

use super::{Controller, Message, unit_id};
use crate::{
    core::Core,
    work::{Input, InputKind, Work, engine_files},
};

/// Between the request to end and the kill.
const GRACE: Duration = Duration::from_secs(10);
/// Between two tries to start a unit; about ten seconds in all.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A build that takes longer hangs.
const LONGEST_BUILD: Duration = Duration::from_secs(3600);

/// Everything of a run that its start needs.
struct Starting {
    row: RunRow,
    work: Work,
    inputs: Vec<Input>,
    devices: Vec<String>,
}

impl Controller {
    pub(super) fn spawn_start(&mut self, run: &RunId) {
        let Some(active) = self.runs.get_mut(run) else { return };
        active.ensuring = true;
        let starting = Starting {
            row: active.row.clone(),
            work: active.work.clone(),
            inputs: active.inputs.clone(),
            devices: active.devices.clone(),
        };
        let (core, starts) = (Arc::clone(&self.core), Arc::clone(&self.starts));
        tokio::spawn(async move {
            // Closed only when the control plane ends.
            let Ok(_permit) = starts.acquire().await else { return };
            let (run, attempt) = (starting.row.id.clone(), starting.row.attempt);
            let result = match unit_spec(&core, starting).await {
                Ok(spec) => ensure(&core, &spec).await,
                Err(message) => Err(End::StagingFailed { message }),
            };
            core.runs.tell(Message::Ensured(run, attempt, result));
        });
    }
}

/// Starts the unit; again where only the engine was away, as it may be for a moment.
async fn ensure(core: &Core, spec: &UnitSpec) -> Result<(), End> {
    let mut pause = Duration::from_millis(20);
    loop {
        match core.engine.ensure(spec).await {
            Ok(()) => return Ok(()),
            Err(error) if error.blame() != Blame::Retry => {
                return Err(End::StagingFailed { message: error.to_string() });
            }
            Err(error) if pause > LONGEST_PAUSE => return Err(End::Lost { message: error.to_string() }),
            Err(error) => tracing::warn!(unit = %spec.id, %error, "cannot start it now; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

async fn unit_spec(core: &Core, starting: Starting) -> Result<UnitSpec, String> {
    let Starting { row, work, inputs, devices } = starting;
    let id = unit_id(&row.id, row.attempt).ok_or("its unit cannot be named")?;
    let mut mounts = Vec::new();
    if let Some(code) = &row.code {
        mounts.push(Mount { at: MountPoint::Code, files: files(core, &row, code).await? });
    }
    for input in &inputs {
        let at = match input.kind {
            InputKind::Dataset => MountPoint::Data(input.at.to_string()),
            InputKind::Model => MountPoint::Model(input.at.to_string()),
        };
        mounts.push(Mount { at, files: files(core, &row, &input.manifest).await? });
    }
    let mut env = BTreeMap::from([
        ("DURE_RUN".to_owned(), row.id.to_string()),
        ("DURE_ATTEMPT".to_owned(), row.attempt.to_string()),
        ("DURE_PROJECT".to_owned(), row.project.to_string()),
    ]);
    let mut unit = UnitSpec {
        id,
        command: Vec::new(),
        env: BTreeMap::new(),
        path_prefix: Vec::new(),
        cpu_milli: row.cpu.milli(),
        memory_bytes: row.memory.bytes(),
        devices,
        mounts,
        timeout: row.timeout.map(|timeout| timeout.duration()),
        grace: GRACE,
        listen: false,
        parameters: serde_json::Value::Null,
    };
    match work {
        Work::Job(spec) => {
            env.insert("DURE_JOB".to_owned(), spec.name.to_string());
            job(core, &row, *spec, env, &mut unit)?;
        }
        Work::Build(input) => {
            let request = BuildRequest { config: build_config(core, &row)?, input };
            // It reads its request from $DURE_PARAMS, a file that only its owner may read.
            unit.command = vec![program(core), "build-environment".to_owned()];
            unit.parameters = serde_json::to_value(request).map_err(|error| error.to_string())?;
            unit.timeout = Some(LONGEST_BUILD);
            unit.env = env;
        }
        Work::Replica { model, version } => {
            let environment = row.environment.as_ref().ok_or("a replica needs an environment")?;
            let flags = [
                ("--model", model.to_string()),
                ("--version", version.to_string()),
                ("--environment", core.environment_dir(environment).display().to_string()),
                ("--threads", row.cpu.milli().div_ceil(1000).to_string()),
                // A body takes several times its size once it is read; a replica must not die of one.
                ("--max-body", (row.memory.bytes() / 16).clamp(1 << 20, 64 << 20).to_string()),
            ];
            unit.command = vec![program(core), "model-server".to_owned()];
            unit.command.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
            unit.listen = true;
            unit.env = env;
        }
    }
    Ok(unit)
}

fn job(
    core: &Core,
    row: &RunRow,
    spec: JobSpec,
    mut env: BTreeMap<String, String>,
    unit: &mut UnitSpec,
) -> Result<(), String> {
    let command = expand_parameters(&spec.command, &spec.parameters)?;
    unit.command = vec!["/bin/sh".to_owned(), "-c".to_owned(), command];
    if !spec.parameters.is_empty() {
        // Without parameters there is no file: making and removing one costs more than starting a small program.
        unit.parameters = serde_json::to_value(&spec.parameters).map_err(|error| error.to_string())?;
    }
    let package = core.config.python_dir().display().to_string();
    let mut python_path = package.clone();
    if let Some(environment) = &row.environment {
        let venv = core.environment_dir(environment).join("venv");
        unit.path_prefix.push(venv.join("bin"));
        env.insert("VIRTUAL_ENV".to_owned(), venv.display().to_string());
    }
    if let Some(theirs) = spec.env.get("PYTHONPATH") {
        python_path = format!("{package}:{theirs}");
    }
    env.extend(spec.env);
    env.insert("PYTHONPATH".to_owned(), python_path);
    unit.env = env;
    Ok(())
}

fn build_config(core: &Core, row: &RunRow) -> Result<BuildConfig, String> {
    let digest = row.environment.as_ref().ok_or("a build needs an environment")?;
    Ok(BuildConfig {
        into: core.environment_dir(digest),
        cache: core.config.data_dir.join("uv-cache"),
        tools: core.config.data_dir.join("tools"),
        index_url: None,
        host: core.config.host.clone(),
    })
}

fn program(core: &Core) -> String {
    core.config.program.display().to_string()
}

async fn files(core: &Core, row: &RunRow, manifest: &Digest) -> Result<Vec<dure_engine::FileEntry>, String> {
    let manifest = core
        .store
        .manifest(&row.project, manifest)
        .await
        .map_err(|error| format!("what it reads cannot be found ({}): {error}", manifest.short()))?;
    Ok(engine_files(&manifest.files))
}
