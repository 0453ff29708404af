//! The real binary, run as a user runs it, for tests: an empty environment, a folder of its own below `/tmp`, a free
//! port. A [`Dure`] ends everything when it is dropped and fails the test if a process is left.
//!
//! It knows the API and the command line, nothing of the control plane's inside, and it never waits by the clock:
//! events, logs, process ends and named pipes say when something is so. Deadlines only turn a hang into a failure.

mod command;
mod dure;
mod gate;
mod leftover;
mod packages;
mod postgres;
mod wait;

use std::{future::Future, sync::LazyLock, time::Duration};

use tokio::runtime::Runtime;

pub use self::{
    command::{Background, Output},
    dure::{Builder, Dure, Response},
    gate::Gate,
    leftover::Process,
    packages::{shared, with_packages},
    postgres::is_given as postgres_is_given,
};

/// Nothing that a test waits for takes this long; what does, hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
});

/// Tests are plain functions; what the API's client does runs here.
pub fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}
