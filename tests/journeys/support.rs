//! What the journeys start from.

use std::sync::Arc;

use dure_testkit::{Builder, Dure};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_dure");

/// A control plane of the test's own, in less than a second; for everything that needs no Python packages.
pub fn dure() -> Dure {
    Dure::start(PROGRAM)
}

pub fn builder() -> Builder {
    Dure::builder(PROGRAM)
}

/// The control plane that tests with packages share; none (and a line that says why) without a package index.
/// Others use it at the same time: take names of your own, stop and delete only what is yours.
pub fn shared() -> Option<Arc<Dure>> {
    dure_testkit::shared(PROGRAM)
}

/// A control plane of the test's own that can build environments.
pub fn with_packages() -> Option<Dure> {
    dure_testkit::with_packages(builder())
}
