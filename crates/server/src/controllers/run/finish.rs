//! The end of an attempt: its log taken in, its outputs kept, and what that makes of its end.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use dure_engine::{Exit, Outcome};
use dure_image::{BuildFailure, Built};
use dure_plan::lifecycle::End;
use dure_store::{RunRow, Scope, StoreError, Tx, environment::EnvironmentChange, model::NewModelVersion};
use dure_types::{
    Digest, Manifest, Name, RunId,
    environment::{EnvironmentState, Package},
    model::{Lineage, Signature},
    run::{ReasonCode, RunOutput},
    spec::{JobSpec, Output, OutputKind},
};

use tokio::io::AsyncReadExt as _;

use super::{Controller, Message, active::Active};
use crate::{
    core::Core,
    work::{Input, InputKind, Work},
};

/// What the controller is told when nothing of an attempt is left to take in.
pub(crate) struct Finished {
    pub run: RunId,
    pub attempt: u32,
    pub end: End,
    /// What is written together with the run's end.
    pub writes: Vec<Write>,
}

/// What a run has made, written in the transaction of its end.
pub(crate) enum Write {
    Outputs { scope: Scope, run: RunId, outputs: Vec<OutputWrite> },
    Environment { project: Name, digest: Digest, change: Box<EnvironmentChange> },
}

pub(crate) struct OutputWrite {
    kind: OutputKind,
    name: Name,
    manifest: Manifest,
    signature: Signature,
    lineage: Lineage,
    metrics: BTreeMap<String, f64>,
}

impl Write {
    pub async fn apply(&self, tx: &mut Tx) -> Result<(), StoreError> {
        match self {
            Self::Outputs { scope, run, outputs } => {
                let mut made = Vec::with_capacity(outputs.len());
                for output in outputs {
                    made.push(output.apply(tx, scope).await?);
                }
                tx.set_outputs(run, scope.at, &made).await
            }
            Self::Environment { project, digest, change } => tx.set_environment_state(project, digest, change).await,
        }
    }
}

impl OutputWrite {
    async fn apply(&self, tx: &mut Tx, scope: &Scope) -> Result<RunOutput, StoreError> {
        let blobs: Vec<_> = self.manifest.files.iter().map(|file| (file.digest.clone(), file.size)).collect();
        tx.grant_blobs(scope, &blobs).await?;
        let manifest = tx.record_manifest(scope, &self.manifest).await?;
        let bytes = self.manifest.size();
        let version = match self.kind {
            OutputKind::Files => None,
            OutputKind::Dataset => {
                let files = self.manifest.files.len() as u64;
                Some(tx.create_dataset_version(scope, &self.name, &manifest, files, bytes).await?.0)
            }
            OutputKind::Model => {
                let model = NewModelVersion {
                    name: self.name.clone(),
                    manifest: manifest.clone(),
                    size: bytes,
                    format: "onnx".to_owned(),
                    signature: self.signature.clone(),
                    lineage: self.lineage.clone(),
                    metrics: self.metrics.clone(),
                };
                Some(tx.create_model_version(scope, &model).await?)
            }
        };
        Ok(RunOutput { kind: self.kind, name: self.name.clone(), version, manifest, bytes })
    }
}

impl Controller {
    /// Takes in what is left of an attempt that has ended. A run without log and outputs needs no task.
    pub(super) fn spawn_finish(&mut self, run: &RunId) {
        self.spawn_ingest(run);
        let Some(active) = self.runs.get_mut(run) else { return };
        let Some(exit) = active.exit.clone() else { return };
        let attempt = active.row.attempt;
        let ingest = active.ingest.take();
        if ingest.is_none() && is_plain(active) {
            let finished = Finished { run: run.clone(), attempt, end: end_of(&exit), writes: Vec::new() };
            return self.core.runs.tell(Message::Finished(Box::new(finished)));
        }
        let (core, row, work, inputs) =
            (Arc::clone(&self.core), active.row.clone(), active.work.clone(), active.inputs.clone());
        tokio::spawn(async move {
            if let Some(ingest) = ingest {
                let _ = ingest.await;
            }
            let (end, writes) = collect(&core, &row, &work, &inputs, &exit).await;
            core.runs.tell(Message::Finished(Box::new(Finished { run: row.id, attempt, end, writes })));
        });
    }
}

fn is_plain(active: &Active) -> bool {
    match &active.work {
        Work::Job(spec) => spec.outputs.is_empty(),
        Work::Replica { .. } => true,
        Work::Build(_) => false,
    }
}

fn end_of(exit: &Exit) -> End {
    match &exit.outcome {
        Outcome::Exited { code } => End::Exited { code: *code },
        Outcome::Signalled { signal } => End::Signalled { signal: *signal },
        Outcome::OutOfMemory { limit } => End::OutOfMemory { limit_bytes: *limit },
        Outcome::TimedOut => End::TimedOut,
        Outcome::Stopped => End::Stopped,
        Outcome::FailedToStart { program, message } => {
            End::CommandNotFound { program: program.clone(), message: message.clone() }
        }
        Outcome::Lost { message } => End::Lost { message: message.clone() },
    }
}

async fn collect(core: &Core, row: &RunRow, work: &Work, inputs: &[Input], exit: &Exit) -> (End, Vec<Write>) {
    let end = end_of(exit);
    match work {
        Work::Replica { .. } => (end, Vec::new()),
        Work::Build(_) => build(core, row, end),
        Work::Job(_) if end == (End::Exited { code: 127 }) => {
            // The shell's word for a command that does not exist; which one stands in the log's last line.
            let message = last_line(core, row).unwrap_or_else(|| "command not found".to_owned());
            let program = message.rsplit(": ").nth(1).unwrap_or("the command").to_owned();
            let message = not_found(core, row, &program).await;
            (End::CommandNotFound { program, message }, Vec::new())
        }
        Work::Job(spec) if end == (End::Exited { code: 0 }) => match outputs(core, row, spec, inputs).await {
            Ok(writes) => (end, writes),
            Err(bad) => (bad, Vec::new()),
        },
        Work::Job(_) => (end, Vec::new()),
    }
}

/// Where a program was looked for; of a script that is there, it is the interpreter that is not.
async fn not_found(core: &Core, row: &RunRow, program: &str) -> String {
    if !program.contains('/') {
        let place = if row.environment.is_some() { "in its environment and on" } else { "on" };
        return format!("not found {place} this machine's PATH; is it installed, and spelt like this?");
    }
    let path = program.strip_prefix("./").unwrap_or(program);
    let interpreter = async {
        let manifest = core.store.manifest(&row.project, row.code.as_ref()?).await.ok()?;
        let file = manifest.files.iter().find(|file| file.path == path)?;
        let mut start = [0; 128];
        let read = core.blobs.open_blob(&file.digest).await.ok()?.read(&mut start).await.ok()?;
        let line = String::from_utf8_lossy(&start[..read]).lines().next()?.strip_prefix("#!")?.trim().to_owned();
        Some(line)
    };
    match interpreter.await {
        Some(interpreter) => format!("its first line names `{interpreter}`, which is not there"),
        None => "not found; the code folder is the working directory, so a path begins there".to_owned(),
    }
}

fn last_line(core: &Core, row: &RunRow) -> Option<String> {
    let length = core.logs.length(&row.id, row.attempt);
    let tail = core.logs.read(&row.id, row.attempt, length.saturating_sub(4096), 4096).ok()?;
    let text = String::from_utf8_lossy(&tail).into_owned();
    text.lines().rev().find(|line| line.contains("not found")).map(str::to_owned)
}

fn build(core: &Core, row: &RunRow, end: End) -> (End, Vec<Write>) {
    let Some(digest) = row.environment.clone() else { return (end, Vec::new()) };
    let into = core.environment_dir(&digest);
    let built = match (&end, Built::load(&into)) {
        (End::Exited { code: 0 }, Some(built)) => Ok(built),
        // It is tried again.
        (End::Lost { .. }, _) => return (end, Vec::new()),
        _ => {
            let reason = || dure_plan::lifecycle::reason_of(&end).message;
            Err(BuildFailure::load(&into).map_or_else(reason, |failure| failure.message))
        }
    };
    let end = match &built {
        Err(message) if matches!(end, End::Exited { .. }) => {
            End::BadOutput { code: ReasonCode::EnvironmentFailed, message: message.clone() }
        }
        _ => end,
    };
    let (built, error) = built.map_or_else(|error| (None, Some(error)), |built| (Some(built), None));
    let packages = built.as_ref().map(|built| {
        let package =
            |package: &dure_image::Package| Package { name: package.name.clone(), version: package.version.clone() };
        built.packages.iter().map(package).collect()
    });
    let change = EnvironmentChange {
        state: if error.is_none() { EnvironmentState::Ready } else { EnvironmentState::Failed },
        build: Some(row.id.clone()),
        python: built.as_ref().map(|built| built.python_version.clone()),
        packages,
        lock: built.map(|built| built.lock),
        error,
        at: core.now(),
    };
    (end, vec![Write::Environment { project: row.project.clone(), digest, change: Box::new(change) }])
}

async fn outputs(core: &Core, row: &RunRow, spec: &JobSpec, inputs: &[Input]) -> Result<Vec<Write>, End> {
    let Some(unit) = super::unit_id(&row.id, row.attempt) else { return Ok(Vec::new()) };
    let folder = core.engine.outputs(&unit);
    let metrics = core.store.last_metrics(std::slice::from_ref(&row.id)).await.ok().unwrap_or_default();
    let metrics: BTreeMap<_, _> = metrics
        .into_values()
        .flatten()
        .filter(|(name, value)| !name.starts_with("dure.") && value.is_finite())
        .collect();
    let lineage = Lineage {
        run: Some(row.id.clone()),
        job: Some(row.name.clone()),
        code: row.code.clone(),
        environment: row.environment.clone(),
        datasets: inputs.iter().filter(|input| input.kind == InputKind::Dataset).map(Input::reference).collect(),
    };
    let mut outputs = Vec::new();
    for (kind, output) in spec.outputs.iter() {
        let (manifest, signature) = keep(core, &folder, kind, output).await?;
        outputs.push(OutputWrite {
            kind,
            name: output.name.clone(),
            manifest,
            signature,
            lineage: lineage.clone(),
            metrics: metrics.clone(),
        });
    }
    let scope = Scope {
        domain: row.domain.clone(),
        project: row.project.clone(),
        actor: row.created_by.clone(),
        at: core.now(),
    };
    Ok(vec![Write::Outputs { scope, run: row.id.clone(), outputs }])
}

/// Takes an output into the blobs, and for a model reads its signature.
async fn keep(core: &Core, folder: &Path, kind: OutputKind, output: &Output) -> Result<(Manifest, Signature), End> {
    let bad = |code: ReasonCode, message: String| End::BadOutput {
        code,
        message: format!("output {} `{}`: {message}", kind.as_str(), output.name),
    };
    let manifest = match core.blobs.put_tree(folder, &output.path).await {
        Ok(manifest) if manifest.files.is_empty() => {
            return Err(bad(ReasonCode::OutputMissing, format!("there is nothing at {} in $DURE_OUTPUT", output.path)));
        }
        Ok(manifest) => manifest,
        Err(StoreError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(bad(ReasonCode::OutputMissing, format!("there is nothing at {} in $DURE_OUTPUT", output.path)));
        }
        Err(error) => return Err(bad(ReasonCode::OutputInvalid, error.to_string())),
    };
    if kind != OutputKind::Model {
        return Ok((manifest, Signature::default()));
    }
    let [file] = manifest.files.as_slice() else {
        let message = format!("a model is one .onnx file; {} has {} files", output.path, manifest.files.len());
        return Err(bad(ReasonCode::OutputInvalid, message));
    };
    let signature = read_signature(core.blobs.path(&file.digest)).await;
    signature.map(|signature| (manifest, signature)).map_err(|error| bad(ReasonCode::OutputInvalid, error))
}

/// Reads a model's signature; a model that is not ONNX is told so.
pub(crate) async fn read_signature(file: PathBuf) -> Result<Signature, String> {
    let read = move || {
        let bytes = std::fs::read(&file).map_err(|error| error.to_string())?;
        dure_modelserver::onnx::signature(&bytes).map_err(|error| error.to_string())
    };
    tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?
}
