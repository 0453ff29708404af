//! What runs are made of: an environment's packages, locked and installed by uv.
//!
//! [`build`] makes one environment at its final place and leaves `environment.json` there as its
//! last act: with that file the environment exists, without it there is none. It is meant for a
//! process of its own, which may be killed at any moment; the next build clears what it left.
//!
//! Deliberately not here: who may build, when, and for whom (the server); container images; and the
//! user's own Python, which is asked for its version and otherwise left alone.

mod build;
mod error;
mod failure;
mod fetch;
mod host;
mod input;
mod interpreter;
mod progress;
mod pyproject;
mod requirements;
mod steps;
mod tree;
mod uv;

pub use build::{BuildConfig, BuildRequest, Built, Package, build, failure_file};
pub use error::{Blame, BuildError, BuildFailure, InputError};
pub use host::{DEFAULT_INDEX, Host};
pub use input::validate;
pub use progress::Progress;
pub use tree::remove;
