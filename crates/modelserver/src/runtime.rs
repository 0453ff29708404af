//! A model in ONNX Runtime: loading, one warm-up, and a run for one request.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dure_types::model::{Signature, TensorSpec};
use ort::{
    ErrorCode,
    environment::Environment,
    logging::LogLevel,
    session::{Session, SessionInputValue, SessionInputs, SessionOutputs},
};

use crate::{Config, ModelError, answer::Output, error::Refusal, infer, onnx, predict, tensor::Buffer};

pub(crate) struct Model {
    pub signature: Signature,
    /// ONNX Runtime's `Run` is not to be called twice at once on one session, so requests take turns.
    pub session: Arc<tokio::sync::Mutex<Session>>,
    pub pace: Pace,
    /// What is told about it when it starts.
    pub summary: String,
}

/// How long recent requests took, which decides whether the next one may run on the thread that holds the connections.
#[derive(Default)]
pub(crate) struct Pace(AtomicU64);

impl Pace {
    /// Above this, health checks and other clients would notice.
    const QUICK: u64 = 1_000_000;

    pub fn is_quick(&self) -> bool {
        self.0.load(Ordering::Relaxed) < Self::QUICK
    }

    /// A moving average of nanoseconds. Lost updates do no harm.
    pub fn took(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 8);
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before - before / 4 + time / 4, Ordering::Relaxed);
    }
}

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Infer,
    Predict,
}

impl Model {
    pub fn load(config: &Config) -> Result<Self, ModelError> {
        let bytes =
            fs::read(&config.model).map_err(|source| ModelError::File { path: config.model.clone(), source })?;
        let model = onnx::read(&bytes)?;
        let environment = environment(&config.library)?;
        let mut session =
            open(&environment, &bytes, config.threads).map_err(|error| ModelError::Load(error.to_string()))?;
        drop(bytes);
        let signature = model.signature;
        let same = |outlets: &[ort::value::Outlet], specs: &[TensorSpec]| {
            outlets.iter().map(|outlet| outlet.name()).eq(specs.iter().map(|spec| spec.name.as_str()))
        };
        if !same(session.inputs(), &signature.inputs) || !same(session.outputs(), &signature.outputs) {
            return Err(ModelError::Load(
                "it reads other inputs or outputs from the file than the file says".to_owned(),
            ));
        }
        let warm_up = warm_up(&mut session, &signature);
        let takes = signature.inputs.iter().map(TensorSpec::describe).collect::<Vec<_>>().join(", ");
        let summary = format!(
            "input {takes}; from {} {}, opset {}, {}",
            model.producer,
            model.producer_version,
            opsets(&model.opsets),
            warm_up
        );
        Ok(Self { signature, session: Arc::new(tokio::sync::Mutex::new(session)), pace: Pace::default(), summary })
    }
}

fn opsets(opsets: &[(String, i64)]) -> String {
    let name = |domain: &str| if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() };
    opsets.iter().map(|(domain, version)| format!("{} {version}", name(domain))).collect::<Vec<_>>().join(", ")
}

/// ONNX Runtime allows one environment in a process; every model of the process shares it.
fn environment(library: &Path) -> Result<Environment, ModelError> {
    static ENVIRONMENT: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);
    let failed = |reason: String| ModelError::Library { path: library.to_owned(), reason };
    let path = fs::canonicalize(library).map_err(|error| failed(error.to_string()))?;
    let mut current = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((loaded, environment)) = &*current {
        return if *loaded == path {
            Ok(environment.clone())
        } else {
            Err(failed(format!("this process already uses {}", loaded.display())))
        };
    }
    let environment = ort::init_from(&path)
        .map_err(|error| failed(error.to_string()))?
        .with_name("dure")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    *current = Some((path, environment.clone()));
    Ok(environment)
}

/// Spinning threads would bill a service for waiting. Errors reach the client; logged, too, every bad request would fill the log.
fn open(environment: &Environment, model: &[u8], threads: usize) -> ort::Result<Session> {
    Session::builder(environment)?
        .with_intra_threads(threads.max(1))?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_log_level(LogLevel::Fatal)?
        .commit_from_memory(model)
}

/// One run with one row of zeros, so that the first request does not pay for allocations. That it fails says
/// nothing: zeros may lie outside what the model was trained on (a category that it does not know).
fn warm_up(session: &mut Session, signature: &Signature) -> String {
    const LARGEST: i64 = 1 << 24;
    let mut inputs = Vec::with_capacity(signature.inputs.len());
    for spec in &signature.inputs {
        let mut shape = spec.shape.clone();
        if let Some(rows) = shape.first_mut().filter(|rows| **rows < 0) {
            *rows = 1;
        }
        let count = shape.iter().try_fold(1i64, |count, size| if *size < 0 { None } else { count.checked_mul(*size) });
        let Some(count) = count.filter(|count| *count <= LARGEST) else {
            return "not warmed up (its shapes are open)".to_owned();
        };
        match Buffer::zeros(spec.datatype, count as usize).into_value(&shape) {
            Ok(value) => inputs.push(value),
            Err(error) => return format!("not warmed up ({error})"),
        }
    }
    match run(session, &inputs) {
        Ok(_) => "warmed up".to_owned(),
        Err(refusal) => format!("not warmed up ({})", refusal.detail),
    }
}

fn run<'s>(session: &'s mut Session, inputs: &[SessionInputValue<'_>]) -> Result<SessionOutputs<'s>, Refusal> {
    session.run(SessionInputs::<'_, '_, 0>::ValueSlice(inputs)).map_err(|error| match error.code() {
        ErrorCode::InvalidArgument => Refusal::input(format!("the model does not take this input: {error}")),
        // A category that it was not trained on, for example. Not our fault (5xx), or a client could have every replica taken for ill.
        _ => Refusal::input(format!("the model failed on this input: {error}")).status(422),
    })
}

/// The whole way of one request's body to its answer.
pub(crate) fn answer(
    config: &Config,
    signature: &Signature,
    session: &mut Session,
    question: Question,
    body: &[u8],
) -> Result<Vec<u8>, Refusal> {
    match question {
        Question::Infer => {
            let request = infer::read(body, signature)?;
            let values = run(session, &request.inputs)?;
            let outputs = request
                .outputs
                .iter()
                .map(|index| Output::read(&values[*index], &signature.outputs[*index]))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(infer::write(&config.name, &config.version, request.id.as_deref(), &outputs))
        }
        Question::Predict => {
            let rows = predict::read(body, signature)?;
            if rows.count == 0 {
                return predict::write(&config.name, &config.version, 0, &[]);
            }
            let values = run(session, &rows.inputs)?;
            let outputs = signature
                .outputs
                .iter()
                .enumerate()
                .map(|(index, spec)| Output::read(&values[index], spec))
                .collect::<Result<Vec<_>, _>>()?;
            predict::write(&config.name, &config.version, rows.count, &outputs)
        }
    }
}
