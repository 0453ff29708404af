//! The tasks that cargo itself does not have: what is generated, what must hold of the code's layout, and how fast
//! Dure is. Nothing here is part of the product, and nothing of the product uses it.

mod bench;
#[cfg(feature = "reference")]
mod generate;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Faults in here end the task with their text; nobody handles them one by one.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of this repository")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Remake the generated reference: OpenAPI document, JSON Schema of the spec, error codes, command line
    #[cfg(feature = "reference")]
    Gen {
        /// Change nothing; fail when something is stale
        #[arg(long)]
        check: bool,
    },
    /// Check the rules of the code's layout
    Tidy,
    /// Measure against named peers, on this machine, as ratios of one run
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        #[cfg(feature = "reference")]
        Task::Gen { check } => generate::run(check),
        Task::Tidy => tidy::run(),
        Task::Bench(arguments) => bench::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
