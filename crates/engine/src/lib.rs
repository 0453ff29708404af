//! What does it: engines, one folder each, and the conformance suite they all pass.
//!
//! An engine starts, watches, stops and removes *units*, the single processes or containers that
//! runs are made of. This crate knows nothing of runs, users, prices or databases: it is told
//! what a unit is and says what became of it. Everything is keyed by the unit's id, so that a
//! crash between "done" and "written down" is repaired by asking the engine again.

pub mod conformance;
mod engine;
mod error;
pub mod process;
mod unit;

pub use engine::{Address, Blobs, Capabilities, Engine, EventStream, Gpu, LogStream, NodeFacts};
pub use error::{Blame, EngineError};
pub use unit::{
    Exit, FileEntry, InvalidSpec, Mount, MountPoint, Outcome, UnitEvent, UnitId, UnitSpec, UnitState, UnitStatus, Usage,
};
