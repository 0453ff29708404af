//! What follows from the end of an attempt, and which changes of state there are.

use dure_types::{
    run::{Reason, ReasonCode, RunState},
    spec::Retries,
};

/// How an attempt ended, in the words that a decision needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Exited {
        code: i32,
    },
    Signalled {
        signal: i32,
    },
    OutOfMemory {
        limit_bytes: u64,
    },
    TimedOut,
    /// Ended because we said so.
    Stopped,
    CommandNotFound {
        program: String,
        message: String,
    },
    Lost {
        message: String,
    },
    StagingFailed {
        message: String,
    },
    /// It exited well, but what it should have made is not there or not what it says.
    BadOutput {
        code: ReasonCode,
        message: String,
    },
}

/// What the run becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Over {
        state: RunState,
        reason: Option<Reason>,
    },
    /// Back to the queue, to be tried again.
    Again {
        reason: Reason,
    },
}

/// How often this run was already tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tried {
    pub lost: u32,
    pub failed: u32,
}

/// What follows from an end, where nobody asked the run to stop; `stop` says why where somebody did.
pub fn after(end: &End, stop: Option<ReasonCode>, retries: Retries, tried: Tried) -> Next {
    let reason = reason_of(end);
    if let Some(code) = stop {
        // It may have ended well just before it was told to stop: then it has succeeded.
        return match end {
            End::Exited { code: 0 } => succeeded(),
            _ => Next::Over { state: RunState::Cancelled, reason: Some(Reason::new(code, stop_message(code))) },
        };
    }
    match end {
        End::Exited { code: 0 } => succeeded(),
        End::Lost { .. } if tried.lost < retries.lost => Next::Again { reason },
        End::Exited { .. } | End::Signalled { .. } | End::OutOfMemory { .. } if tried.failed < retries.failed => {
            Next::Again { reason }
        }
        _ => Next::Over { state: RunState::Failed, reason: Some(reason) },
    }
}

fn succeeded() -> Next {
    Next::Over { state: RunState::Succeeded, reason: None }
}

pub fn stop_message(code: ReasonCode) -> &'static str {
    match code {
        ReasonCode::Replaced => "its service has no more use for it",
        ReasonCode::ShutDown => "Dure was shut down",
        _ => "stopped on request",
    }
}

/// An end in a sentence.
pub fn reason_of(end: &End) -> Reason {
    match end {
        End::Exited { code } => Reason::new(ReasonCode::ExitCode, format!("exit {code}")),
        End::Signalled { signal } => {
            Reason::new(ReasonCode::Signalled, format!("ended by signal {signal} ({})", signal_name(*signal)))
        }
        End::OutOfMemory { limit_bytes } => Reason::new(
            ReasonCode::OutOfMemory,
            format!("out of memory: it needed more than its {}", dure_types::Memory::from_bytes(*limit_bytes)),
        ),
        End::TimedOut => Reason::new(ReasonCode::TimedOut, "its time limit was reached"),
        End::Stopped => Reason::new(ReasonCode::StoppedByUser, stop_message(ReasonCode::StoppedByUser)),
        End::CommandNotFound { program, message } => {
            Reason::new(ReasonCode::CommandNotFound, format!("`{program}` cannot be started: {message}"))
        }
        End::Lost { message } => Reason::new(ReasonCode::MachineLost, message.clone()),
        End::StagingFailed { message } => Reason::new(ReasonCode::StagingFailed, message.clone()),
        End::BadOutput { code, message } => Reason::new(*code, message.clone()),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => "see signal(7)",
    }
}

/// The changes of state that exist.
pub fn may_become(from: RunState, to: RunState) -> bool {
    use RunState::{Cancelled, Failed, Preparing, Queued, Running, Stopping, Succeeded};
    match from {
        Queued => matches!(to, Queued | Preparing | Failed | Cancelled),
        Preparing => matches!(to, Queued | Running | Stopping | Succeeded | Failed | Cancelled),
        Running => matches!(to, Queued | Stopping | Succeeded | Failed | Cancelled),
        Stopping => matches!(to, Succeeded | Failed | Cancelled),
        Succeeded | Failed | Cancelled => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONCE: Retries = Retries { lost: 1, failed: 1 };
    const NEVER: Retries = Retries { lost: 0, failed: 0 };

    fn state(next: Next) -> &'static str {
        match next {
            Next::Over { state, .. } => state.as_str(),
            Next::Again { .. } => "again",
        }
    }

    #[test]
    fn what_follows_from_an_end() {
        let lost = || End::Lost { message: "gone".to_owned() };
        let none = Tried::default();
        let used = Tried { lost: 1, failed: 1 };
        let cases = [
            (End::Exited { code: 0 }, None, NEVER, none, "succeeded"),
            (End::Exited { code: 1 }, None, NEVER, none, "failed"),
            (End::Exited { code: 1 }, None, ONCE, none, "again"),
            (End::Exited { code: 1 }, None, ONCE, used, "failed"),
            (End::OutOfMemory { limit_bytes: 1 }, None, ONCE, none, "again"),
            (lost(), None, ONCE, none, "again"),
            (lost(), None, ONCE, used, "failed"),
            (End::TimedOut, None, ONCE, none, "failed"),
            (End::Signalled { signal: 15 }, Some(ReasonCode::StoppedByUser), ONCE, none, "cancelled"),
            (End::Exited { code: 0 }, Some(ReasonCode::StoppedByUser), ONCE, none, "succeeded"),
            (lost(), Some(ReasonCode::StoppedByUser), ONCE, none, "cancelled"),
        ];
        for (end, stop, retries, tried, expected) in cases {
            assert_eq!(state(after(&end, stop, retries, tried)), expected, "{end:?} {stop:?} {tried:?}");
        }
    }

    #[test]
    fn nothing_comes_after_the_end() {
        for from in RunState::ALL.into_iter().filter(|state| state.is_over()) {
            for to in RunState::ALL {
                assert!(!may_become(from, to), "{from:?} -> {to:?}");
            }
        }
    }
}
