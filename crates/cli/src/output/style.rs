//! The few colours there are. They are written always and taken out by anstream where the output is no
//! terminal or NO_COLOR is set.

use anstyle::{AnsiColor, Style};
use dure_types::{run::RunState, service::ServiceState};

pub const HEADING: Style = Style::new().bold();
pub const DIM: Style = Style::new().dimmed();
pub const GOOD: Style = AnsiColor::Green.on_default();
pub const BUSY: Style = AnsiColor::Cyan.on_default();
pub const WARN: Style = AnsiColor::Yellow.on_default();
pub const BAD: Style = AnsiColor::Red.on_default();
pub const ERROR: Style = AnsiColor::Red.on_default().bold();

pub fn run_state(state: RunState) -> Style {
    match state {
        RunState::Queued => WARN,
        RunState::Preparing | RunState::Running => BUSY,
        RunState::Succeeded => GOOD,
        RunState::Failed => BAD,
        RunState::Stopping | RunState::Cancelled => DIM,
    }
}

pub fn service_state(state: ServiceState) -> Style {
    match state {
        ServiceState::Rolling => BUSY,
        ServiceState::Ready => GOOD,
        ServiceState::Failed => BAD,
        ServiceState::Stopping => DIM,
    }
}
