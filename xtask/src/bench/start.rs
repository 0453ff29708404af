//! How long from a run's submission until the first line that its program prints can be read.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::timeout;

use super::{Figures, control_plane::ControlPlane, figure, http::Connection, runtime};
use crate::Result;

const LIMIT: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub struct Options {
    /// How many runs, one after the other
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    runs: u64,
}

pub fn run(options: &Options) -> Result<Figures> {
    println!(
        "start: {} runs of `echo hello`, one after the other; from POST to the first log event of its stream",
        options.runs
    );
    let control_plane = ControlPlane::start(None)?;
    let mut milliseconds = runtime()?.block_on(async {
        let mut api = Connection::open(&control_plane).await?;
        let mut milliseconds = Vec::new();
        for _ in 0..options.runs {
            let one = timeout(LIMIT, first_line(&control_plane, &mut api)).await;
            milliseconds.push(one.map_err(|_| format!("no log line within {} s", LIMIT.as_secs()))??);
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(milliseconds)
    })?;
    milliseconds.sort_by(f64::total_cmp);
    Ok(Figures::from_iter([
        ("p50_ms".to_owned(), figure(percentile(&milliseconds, 50))),
        ("p95_ms".to_owned(), figure(percentile(&milliseconds, 95))),
    ]))
}

async fn first_line(control_plane: &ControlPlane, api: &mut Connection) -> Result<f64> {
    let logs = Connection::open(control_plane).await?;
    let body =
        json!({"spec": {"name": "bench", "command": "echo hello", "resources": {"cpu": "100m", "memory": "16Mi"}}});
    let began = Instant::now();
    let run = api.post("/projects/default/runs", &body).await?;
    let id = run["id"].as_str().ok_or("the answer has no id")?;
    let mut events = logs.events(&format!("/projects/default/runs/{id}/logs?follow=true")).await?;
    let mut first = None;
    // To its end, so that the next one starts on an idle machine.
    while let Some(event) = events.next().await? {
        match event.name.as_str() {
            "log" => first = first.or_else(|| Some(began.elapsed())),
            "end" => break,
            _ => {}
        }
    }
    Ok(first.ok_or("the run printed nothing")?.as_secs_f64() * 1000.0)
}

/// The nearest rank.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 50), 100.0);
        assert_eq!(percentile(&sorted, 95), 190.0);
        assert_eq!(percentile(&[3.0], 95), 3.0);
    }
}
