//! `dure completions`: what a shell completes from.

use clap::CommandFactory as _;

use crate::{args, exit::CliError, output};

pub fn run(arguments: args::Completions) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut args::Cli::command(), "dure", &mut script);
    Ok(output::raw(&script)?)
}
