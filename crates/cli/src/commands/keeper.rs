//! `dure keeper`: the small process that starts units and outlives the control plane.

use std::{ffi::OsString, process::ExitCode};

pub fn run(arguments: Vec<OsString>) -> ExitCode {
    dure_engine::process::keeper::main(arguments.into_iter())
}
