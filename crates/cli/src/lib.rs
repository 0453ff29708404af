//! The command line: what a person types, sees, and gets back as an exit code.
//!
//! It uses the API through `dure-client` and nothing else; only `up` and the hidden commands are the server's
//! own parts. It decides nothing about runs, prices or rights.

mod commands;
mod context;
mod exit;
mod failure;
mod failure_report;
mod find;
mod follow;
mod hint;
mod load;
mod messages;
mod near;
mod output;
mod profile;
mod progress;
mod upload;

mod args;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    commands::run(args::Cli::parse())
}

/// The command line as it is declared, for the reference that is made from it.
pub fn command() -> clap::Command {
    args::Cli::command()
}
