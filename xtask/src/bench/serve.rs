//! Predictions a second, and what one costs: gateway and native ONNX Runtime beside ONNX Runtime in FastAPI, each on
//! one core, with the load on another.

use std::fs;

use serde_json::{Value, json};

use super::{
    Figures,
    control_plane::ControlPlane,
    figure,
    load::{self, Target},
    peer::{self, FastApi},
};
use crate::{Result, workspace::root};

const WARM_UP_SECONDS: u64 = 1;

#[derive(clap::Args)]
pub struct Options {
    /// How long each load lasts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

struct Measured {
    requests_per_second_c1: f64,
    requests_per_second_c32: f64,
    cpu_us_per_request: f64,
}

pub fn run(options: &Options) -> Result<Figures> {
    let (server_core, load_core) = load::two_cores()?;
    println!(
        "serve: POST one row of 64 values, {} s with 1 and with 32 connections; servers on core {server_core}, load on core {load_core}\n\
         ours: the gateway of `dure up`, a token, one replica of 1 CPU; CPU of control plane, keeper and replica\n\
         peer: bench/fastapi/app.py: async def, uvloop, httptools, orjson, no access log, one process, onnxruntime with one thread",
        options.seconds
    );
    let python = peer::python()?;
    let folder = tempfile::Builder::new().prefix("dure-bench-").tempdir()?;
    let model = folder.path().join("model.onnx");
    peer::train(&python, &model)?;
    let body = one_row()?;

    let theirs = {
        let server = FastApi::start(&python, &model, server_core)?;
        let target =
            Target { address: server.address.clone(), path: "/predict".to_owned(), token: None, body: body.clone() };
        measure(&target, options.seconds, load_core, || server.cpu_seconds())?
    };
    let ours = {
        let control_plane = ControlPlane::start(Some(server_core))?;
        let model = model.to_str().ok_or("a temporary folder whose name is not UTF-8")?;
        control_plane.dure(&["model", "register", model, "--name", "digits"])?;
        let spec = control_plane.folder().join("service.yaml");
        fs::write(&spec, "kind: service\nname: digits\nmodel: digits@latest\nresources: {cpu: 1, memory: 512Mi}\n")?;
        let spec = spec.to_str().ok_or("a temporary folder whose name is not UTF-8")?;
        // Which follows it until it is ready.
        control_plane.dure(&["apply", "-f", spec, "--yes"])?;
        let target = Target {
            address: control_plane.address.clone(),
            path: "/s/default/digits/predict".to_owned(),
            token: Some(control_plane.token.clone()),
            body,
        };
        measure(&target, options.seconds, load_core, || control_plane.cpu_seconds())?
    };

    Ok(Figures::from_iter([
        ("requests_per_second_c1".to_owned(), figure(ours.requests_per_second_c1)),
        ("requests_per_second_c32".to_owned(), figure(ours.requests_per_second_c32)),
        ("cpu_us_per_request".to_owned(), figure(ours.cpu_us_per_request)),
        ("fastapi_requests_per_second_c1".to_owned(), figure(theirs.requests_per_second_c1)),
        ("fastapi_requests_per_second_c32".to_owned(), figure(theirs.requests_per_second_c32)),
        ("fastapi_cpu_us_per_request".to_owned(), figure(theirs.cpu_us_per_request)),
        ("ratio_to_fastapi".to_owned(), figure(theirs.cpu_us_per_request / ours.cpu_us_per_request)),
    ]))
}

fn measure(target: &Target, seconds: u64, core: usize, cpu_seconds: impl Fn() -> Result<f64>) -> Result<Measured> {
    // Both servers must answer with one row for the one that they were given.
    let answer: Value = serde_json::from_str(&load::once(target)?)?;
    if answer["rows"].as_array().is_none_or(|rows| rows.len() != 1) {
        return Err(format!("not the answer to one row: {answer}").into());
    }
    load::run(target, 32, WARM_UP_SECONDS, core)?;
    let alone = load::run(target, 1, seconds, core)?;
    let before = cpu_seconds()?;
    let together = load::run(target, 32, seconds, core)?;
    let used = cpu_seconds()? - before;
    Ok(Measured {
        requests_per_second_c1: alone as f64 / seconds as f64,
        requests_per_second_c32: together as f64 / seconds as f64,
        cpu_us_per_request: used * 1e6 / together as f64,
    })
}

/// The first held-out digit, without its label.
fn one_row() -> Result<String> {
    let table = fs::read_to_string(root().join("examples/digits/held-out.csv"))?;
    let row = table.lines().nth(1).ok_or("held-out.csv has no row")?;
    let values: Vec<f64> = row.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
    Ok(json!({"rows": [&values[..values.len() - 1]]}).to_string())
}
