//! How many short runs a second go from submission to their recorded end, beside what `xargs -P2 -n1 true` does with
//! as many processes and no memory of them.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};

use super::{Figures, control_plane::ControlPlane, figure, http::Connection, runtime};
use crate::Result;

const RUNS: &str = "/projects/default/runs";
const LIMIT: Duration = Duration::from_secs(900);

#[derive(clap::Args)]
pub struct Options {
    /// How many runs
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    tasks: u64,
    /// How many connections submit them
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    connections: u64,
    /// What each asks for; it decides how many run side by side
    #[arg(long, default_value = "100m")]
    cpu: String,
}

pub fn run(options: &Options) -> Result<Figures> {
    println!(
        "dispatch: {} runs of /bin/true ({} CPU, 16Mi each) by POST {RUNS} on {} connections, over when their last event came;\n\
         peer: {} lines into `xargs -P2 -n1 true`, the better of one before and one after",
        options.tasks, options.cpu, options.connections, options.tasks
    );
    let before = xargs(options.tasks)?;
    let ours = {
        let control_plane = ControlPlane::start(None)?;
        runtime()?.block_on(async {
            let measured = timeout(LIMIT, dispatch(&control_plane, options)).await;
            measured.map_err(|_| format!("not over after {} s", LIMIT.as_secs()))?
        })?
    };
    let peer = before.max(xargs(options.tasks)?);
    Ok(Figures::from_iter([
        ("per_second".to_owned(), figure(ours)),
        ("xargs_per_second".to_owned(), figure(peer)),
        ("ratio_to_xargs".to_owned(), figure(ours / peer)),
    ]))
}

async fn dispatch(control_plane: &ControlPlane, options: &Options) -> Result<f64> {
    // Its answer's head is here before the first run is, so that no end is missed.
    let mut events = Connection::open(control_plane).await?.events("/projects/default/events?follow=true").await?;
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        connections.push(Connection::open(control_plane).await?);
    }
    let body = Arc::new(json!({"spec": {
        "name": "bench", "command": "/bin/true", "resources": {"cpu": options.cpu, "memory": "16Mi"},
    }}));
    let taken = Arc::new(AtomicU64::new(0));
    let tasks = options.tasks;

    let began = Instant::now();
    let mut submitting = JoinSet::new();
    for mut connection in connections {
        let (body, taken) = (Arc::clone(&body), Arc::clone(&taken));
        submitting.spawn(async move {
            while taken.fetch_add(1, Ordering::Relaxed) < tasks {
                connection.post(RUNS, &body).await?;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
    let mut over = 0;
    while over < tasks {
        tokio::select! {
            Some(submitted) = submitting.join_next() => submitted??,
            event = events.next() => {
                let event = event?.ok_or("the stream of events ended")?;
                let event: Value = serde_json::from_str(&event.data)?;
                if event["resource"] != "run" {
                    continue;
                }
                match event["action"].as_str() {
                    Some("succeeded") => over += 1,
                    Some("failed" | "cancelled") => return Err(format!("a run did not succeed: {event}").into()),
                    _ => {}
                }
            }
        }
    }
    Ok(tasks as f64 / began.elapsed().as_secs_f64())
}

fn xargs(tasks: u64) -> Result<f64> {
    let began = Instant::now();
    let mut xargs = Command::new("xargs").args(["-P2", "-n1", "true"]).stdin(Stdio::piped()).spawn()?;
    // Dropped at the end of the statement, which is the end of its input.
    xargs.stdin.take().ok_or("xargs has no input")?.write_all("x\n".repeat(usize::try_from(tasks)?).as_bytes())?;
    if !xargs.wait()?.success() {
        return Err("xargs failed".into());
    }
    Ok(tasks as f64 / began.elapsed().as_secs_f64())
}
