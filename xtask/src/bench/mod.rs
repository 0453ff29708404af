//! Benchmarks: how fast Dure does one thing beside a named peer, on this machine, in one run. The ratio is what counts;
//! the figures themselves belong to the machine. All traffic stays on 127.0.0.1, bounded in count and time.

mod control_plane;
mod dispatch;
mod http;
mod load;
mod peer;
mod serve;
mod start;

use std::{env, process::Command};

use clap::Subcommand;
use serde_json::{Map, Value};

use crate::{Result, workspace::root};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
    /// The figures once more as one flat JSON object, the last line of stdout
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Short runs through the API, against xargs
    Dispatch(dispatch::Options),
    /// From a run's submission to the first line of its log
    Start(start::Options),
    /// Predictions through the gateway, against ONNX Runtime in FastAPI
    Serve(serve::Options),
}

/// Named with their unit, in the order in which they are shown.
type Figures = Map<String, Value>;

pub fn run(arguments: &Arguments) -> Result<()> {
    if cfg!(debug_assertions) {
        return run_optimised();
    }
    let figures = match &arguments.benchmark {
        Benchmark::Dispatch(options) => dispatch::run(options)?,
        Benchmark::Start(options) => start::run(options)?,
        Benchmark::Serve(options) => serve::run(options)?,
    };
    for (name, value) in &figures {
        println!("{name:28} {value}");
    }
    if arguments.json {
        println!("{}", Value::Object(figures));
    }
    Ok(())
}

/// The same again from a release build: a slow load generator would measure itself.
fn run_optimised() -> Result<()> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--quiet", "--release", "--package", "xtask", "--no-default-features", "--"]);
    let status = cargo.args(env::args_os().skip(1)).current_dir(root()).status()?;
    if status.success() { Ok(()) } else { Err("the benchmark did not finish".into()) }
}

/// Three significant digits are more than a benchmark knows.
fn figure(value: f64) -> Value {
    let digits = match value {
        1000.0.. => 0,
        10.0.. => 1,
        _ => 3,
    };
    let scale = 10_f64.powi(digits);
    Value::from((value * scale).round() / scale)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
