//! What is said of a run or service that failed: first why, in the program's own words, then where to
//! look and what to try.

use dure_client::Client;
use dure_types::{
    Code,
    run::{LogQuery, ReasonCode, Run, RunDetail, RunState},
    service::Service,
};

use futures_util::StreamExt as _;

use crate::{
    exit::{CliError, Exit, Said},
    failure::last_words,
    follow, hint, messages,
    output::format,
};

/// So much of a log is looked at for its last words.
const TAIL: usize = 256 << 10;

/// The run that failed, and the build behind it where that is why.
pub async fn of_run(client: &Client, detail: &RunDetail, again: Option<&str>) -> CliError {
    let run = &detail.run;
    let mut culprit = run.clone();
    if is(run, ReasonCode::EnvironmentFailed)
        && let Some(digest) = &detail.environment
        && let Ok(environment) = client.get_environment(digest.as_str()).await
        && let Some(build) = environment.build
        && let Ok(build) = client.get_run(build.as_str()).await
    {
        culprit = build.run;
    }
    let words = if has_words(run) { words_of(client, &culprit).await } else { None };
    report(detail, &culprit, words, again).into()
}

/// The service, by the newest of its replicas that failed.
pub async fn of_service(client: &Client, service: &Service, again: Option<&str>) -> CliError {
    let why =
        service.reason.as_ref().map_or_else(|| service.state.as_str().to_owned(), |reason| reason.message.clone());
    let mut said = Said {
        head: messages::failed_service(&service.name, why),
        lines: Vec::new(),
        code: Some(Code::NotReady.as_str().to_owned()),
        exit: Exit::Failed,
    };
    let failed = service.replicas.iter().rev().find(|replica| replica.state == RunState::Failed);
    if let Some(replica) = failed
        && let Ok(detail) = client.get_run(replica.run.as_str()).await
    {
        said.lines.extend(words_of(client, &detail.run).await);
        said.lines.push(further(&detail.run, again));
    } else {
        said.lines.push(further_service(service, again));
    }
    said.into()
}

/// Whether the program itself knows why; one that was killed does not.
fn has_words(run: &Run) -> bool {
    let of_program =
        [ReasonCode::ExitCode, ReasonCode::Signalled, ReasonCode::EnvironmentFailed, ReasonCode::OutputMissing];
    run.state == RunState::Failed && of_program.into_iter().any(|code| is(run, code))
}

fn is(run: &Run, code: ReasonCode) -> bool {
    run.reason.as_ref().is_some_and(|reason| reason.code == code)
}

/// What the program printed last; nothing where its log cannot be had, because that is not the fault to tell.
async fn words_of(client: &Client, run: &Run) -> Option<String> {
    let mut log = std::pin::pin!(client.get_logs(run.id.as_str(), &LogQuery::default()).await.ok()?);
    let mut end = Vec::new();
    while let Some(Ok(bytes)) = log.next().await {
        end.extend_from_slice(&bytes);
        // Only the end of it counts.
        if end.len() > 2 * TAIL {
            end.drain(..end.len() - TAIL);
        }
    }
    last_words(&String::from_utf8_lossy(&end))
}

fn report(detail: &RunDetail, culprit: &Run, words: Option<String>, again: Option<&str>) -> Said {
    let run = &detail.run;
    let length = follow::took(run).map(format::duration).unwrap_or_default();
    let last = detail.attempts.last();
    let why = run.reason.as_ref().map_or_else(|| run.state.as_str().to_owned(), |reason| reason.message.clone());
    let code = run.reason.as_ref().map(|reason| reason.code);
    let exit_code = last.and_then(|attempt| attempt.exit_code);
    let signal = last.and_then(|attempt| attempt.signal);
    let head = match (run.state, code, exit_code, signal) {
        (RunState::Cancelled, ..) => messages::cancelled(&run.name, &why),
        // A shell ends so when what it ran was ended by a signal.
        (_, Some(ReasonCode::ExitCode), Some(exit_code @ 129..=159), _) => {
            messages::failed_exit(&run.name, messages::exit_signal(exit_code, exit_code - 128), length)
        }
        (_, Some(ReasonCode::ExitCode), Some(exit_code), _) => messages::failed_exit(&run.name, exit_code, length),
        (_, Some(ReasonCode::Signalled), _, Some(signal)) => messages::failed_signal(&run.name, signal, length),
        _ => messages::failed_why(&run.name, &why),
    };
    // What the head says already is not said again.
    let words = words.filter(|words| !head.contains(words.trim_end_matches('…')));
    let lines = words.into_iter().chain([further(culprit, again)]).collect();
    Said { head, lines, code: Some(public_code(code).as_str().to_owned()), exit: Exit::Failed }
}

fn further(run: &Run, again: Option<&str>) -> String {
    let log = messages::log_hint(hint::logs(run.id.short()));
    match again {
        Some(command) => format!("{log}    {}", messages::again_hint(command)),
        None => log,
    }
}

fn further_service(service: &Service, again: Option<&str>) -> String {
    let show = format!("{}: {}", messages::try_next(), hint::show(format!("service/{}", service.name)));
    match again {
        Some(command) => format!("{show}    {}", messages::again_hint(command)),
        None => show,
    }
}

fn public_code(reason: Option<ReasonCode>) -> Code {
    match reason {
        Some(ReasonCode::OutOfMemory) => Code::OutOfMemory,
        Some(ReasonCode::TimedOut) => Code::TimedOut,
        Some(ReasonCode::CommandNotFound) => Code::CommandNotFound,
        Some(ReasonCode::OutputMissing | ReasonCode::OutputInvalid) => Code::OutputMissing,
        Some(ReasonCode::EnvironmentFailed) => Code::EnvironmentFailed,
        Some(ReasonCode::MachineLost | ReasonCode::NodeLost) => Code::MachineLost,
        _ => Code::RunFailed,
    }
}

#[cfg(test)]
mod tests {
    use dure_types::{
        Cpu, Memory, Money, Name, RunId, Timestamp,
        run::{Attempt, Reason, RunKind},
    };

    use super::*;

    fn failed(reason: Reason, exit_code: Option<i32>) -> RunDetail {
        let at = |seconds: i64| Some(Timestamp::from_micros(seconds * 1_000_000));
        let name = |text| Name::new(text).unwrap();
        let id: RunId = "7f3a0000000000000000".parse().unwrap();
        RunDetail {
            run: Run {
                id,
                name: name("train-digits"),
                kind: RunKind::Job,
                project: name("default"),
                created_by: "owner".to_owned(),
                state: RunState::Failed,
                reason: Some(reason),
                cpu: Cpu::from_milli(1000),
                memory: Memory::from_bytes(1 << 30),
                gpu: 0,
                created_at: Timestamp::default(),
                started_at: at(10),
                ended_at: at(12),
                node: None,
                attempt: 1,
                cost: Money::default(),
                metrics: Default::default(),
            },
            spec: None,
            code: None,
            environment: None,
            inputs: Vec::new(),
            attempts: vec![Attempt {
                number: 1,
                node: name("here"),
                created_at: Timestamp::default(),
                started_at: at(10),
                ended_at: at(12),
                exit_code,
                signal: None,
                reason: None,
                cpu_seconds: None,
                peak_memory_bytes: None,
                cost: Money::default(),
            }],
            outputs: Vec::new(),
        }
    }

    #[test]
    fn the_last_words_come_first_and_the_next_step_last() {
        let detail = failed(Reason::new(ReasonCode::ExitCode, "exit 1"), Some(1));
        let said = report(
            &detail,
            &detail.run,
            Some("Traceback: train.py:31: KeyError: 'label'".to_owned()),
            Some("dure apply -f train.yaml"),
        );
        assert!(said.head.contains("train-digits") && said.head.contains("2.0 s"), "{}", said.head);
        assert_eq!(said.lines[0], "Traceback: train.py:31: KeyError: 'label'");
        assert!(said.lines[1].contains("dure logs 7f3a00") && said.lines[1].contains("dure apply -f train.yaml"));
        assert_eq!((said.code.as_deref(), said.exit), (Some("E0402"), Exit::Failed));
    }

    #[test]
    fn a_reason_that_says_everything_is_not_repeated() {
        let detail = failed(Reason::new(ReasonCode::OutOfMemory, "out of memory: it used 1Gi"), None);
        let said = report(&detail, &detail.run, Some("out of memory".to_owned()), None);
        assert_eq!(said.lines.len(), 1);
        assert_eq!(said.code.as_deref(), Some("E0403"));
    }
}
