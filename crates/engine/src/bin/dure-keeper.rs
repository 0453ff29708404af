//! The keeper as a program of its own, for machines that have nothing else of Dure.

use std::process::ExitCode;

fn main() -> ExitCode {
    dure_engine::process::keeper::main(std::env::args_os().skip(1))
}
