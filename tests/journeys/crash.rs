//! Kills: of the control plane, of the keeper, at any moment. What was accepted is done, once, and billed once.

use std::{collections::BTreeMap, fs, path::Path};

use dure_testkit::{Dure, Gate, Process};
use dure_types::{
    event::Event,
    run::{ReasonCode, RunDetail, RunState},
};
use serde_json::Value;

use crate::{
    runs::start,
    support::{builder, dure, with_packages},
};

const MODEL: &[u8] = include_bytes!("../../crates/modelserver/tests/fixtures/classifier_tensor.onnx");

const TRAINING: &str = r#"
import os, shutil, sys
import dure

gate, runs = sys.argv[1:]
with open(runs, "a") as file:
    print(os.environ["DURE_RUN"], os.environ["DURE_ATTEMPT"], file=file)
for step in range(1, 4):
    print(f"epoch {step}")
    dure.log({"loss": 1 / step}, step=step)
print("half way")
with open(gate) as file:
    file.readline()
for step in range(4, 7):
    print(f"epoch {step}")
    dure.log({"loss": 1 / step}, step=step)
shutil.copy("model.onnx", os.path.join(dure.output_dir(), "model.onnx"))
print("done")
"#;

const LOG: &str = "epoch 1\nepoch 2\nepoch 3\nhalf way\nepoch 4\nepoch 5\nepoch 6\ndone\n";

/// A training that waits half way; returns its run once it does, and the file in which it says that it began.
fn train(dure: &Dure, gate: &Gate) -> String {
    dure.write_file("code/train.py", TRAINING);
    dure.write_file("code/model.onnx", MODEL);
    let begun = dure.work().join("begun");
    let spec = format!(
        "kind: job\nname: train\ncode: code\ncommand: python3 train.py {} {}\nresources: {{cpu: 500m}}\n\
         outputs: {{model: {{name: kept, path: model.onnx}}}}\n",
        gate.path().display(),
        begun.display()
    );
    dure.write_file("train.yaml", spec);
    dure.cli(&["apply", "-f", "train.yaml", "--yes", "--detach"]).expect(0);
    let run = dure.run_of("train");
    dure.wait_log(&run, "half way\n");
    run
}

fn trainer(dure: &Dure) -> Process {
    dure.process(|command| command.starts_with("python3 train.py"))
}

/// Everything that a training leaves, as if nothing had happened.
fn assert_trained_once(dure: &Dure, run: &str) -> RunDetail {
    let detail = dure.wait_run_state(run, RunState::Succeeded);
    assert_eq!(detail.run.id.as_str(), run);
    assert_eq!(detail.attempts.len(), 1, "{:?}", detail.attempts);
    assert_eq!(fs::read_to_string(dure.work().join("begun")).expect("begun"), format!("{run} 1\n"));
    assert_eq!(dure.json(&["ps", "--all"])["items"].as_array().map(Vec::len), Some(1));

    assert_eq!(dure.cli(&["logs", run]).expect(0).stdout, LOG);
    let raw = dure.cli(&["logs", run, "--raw"]).expect(0).stdout;
    assert_eq!(raw.matches("##dure ").count(), 6, "{raw}");
    let metrics = dure.http("GET", &format!("/api/v1/projects/default/runs/{run}/metrics"), Some(dure.token()), None);
    let points = metrics.json();
    let steps: Vec<_> = points["items"].as_array().expect("items").iter().map(|one| one["step"].as_i64()).collect();
    let loss: Vec<_> = (1..=6).map(Some).collect();
    let of_loss: Vec<_> = points["items"]
        .as_array()
        .expect("items")
        .iter()
        .zip(&steps)
        .filter(|(point, _)| point["name"] == "loss")
        .map(|(_, step)| *step)
        .collect();
    assert_eq!(of_loss, loss);

    let model = dure.json(&["show", "model/kept"]);
    assert_eq!(model["latest"], 1, "{model}");
    assert_eq!(dure.json(&["show", "model/kept@1"])["lineage"]["run"], run);
    assert_billed_once(dure, &detail);
    detail
}

/// One interval, from the keeper's start to the keeper's end of it, at the node's rate for the larger share.
fn assert_billed_once(dure: &Dure, detail: &RunDetail) {
    let attempt = &detail.attempts[0];
    let (started, ended) = (attempt.started_at.expect("a start"), attempt.ended_at.expect("an end"));
    let micros = ended.micros() - started.micros();
    let node = dure.json(&["node", "list"])["items"][0].clone();
    let share = (detail.run.cpu.milli() as f64 / node["facts"]["cpu_milli"].as_f64().expect("cores"))
        .max(detail.run.memory.bytes() as f64 / node["facts"]["memory_bytes"].as_f64().expect("memory"));
    let expected = node["rate"]["per_hour"].as_f64().expect("a rate") * share * micros as f64 / 3.6e9;
    let report = dure.json(&["cost", "--by", "run"]);
    let is_it = |line: &&Value| line["group"] == detail.run.id.as_str();
    let lines: Vec<_> = report["lines"].as_array().expect("lines").iter().filter(is_it).collect();
    let [line] = lines.as_slice() else { panic!("not one line: {report}") };
    assert_eq!(line["runs"], 1);
    assert_eq!(line["running"], false);
    assert!((line["seconds"].as_f64().expect("seconds") - micros as f64 / 1e6).abs() < 1e-5, "{line} {micros}");
    let spent = line["spent"].as_f64().expect("spent");
    assert!((spent - expected).abs() <= 2.0 + expected * 1e-6, "{spent} is not {expected}");
    assert_eq!(detail.run.cost.nanos() as f64, spent);
}

fn killed_in_the_middle_of_a_training(mut dure: Dure) {
    let gate = Gate::new(&dure.work().join("gate"));
    let run = train(&dure, &gate);
    let program = trainer(&dure);
    let before = dure.wait_run_state(&run, RunState::Running).attempts[0].started_at;
    dure.kill();
    dure.restart();
    let detail = dure.wait_run_state(&run, RunState::Running);
    assert_eq!(detail.attempts[0].started_at, before);
    assert_eq!(trainer(&dure), program, "the same process");
    gate.open();
    assert_trained_once(&dure, &run);
}

#[test]
fn a_kill_in_the_middle_of_a_training_changes_nothing() {
    killed_in_the_middle_of_a_training(dure());
}

#[test]
fn a_kill_in_the_middle_of_a_training_changes_nothing_on_postgresql() {
    if dure_testkit::postgres_is_given() {
        killed_in_the_middle_of_a_training(builder().postgres().start());
    }
}

#[test]
fn a_training_that_ends_while_no_control_plane_runs_is_taken_in_and_billed_to_its_own_end() {
    let mut dure = dure();
    let gate = Gate::new(&dure.work().join("gate"));
    let run = train(&dure, &gate);
    let unit = dure.process(|command| command.starts_with("/bin/sh -c python3 train.py"));
    dure.kill();
    gate.open();
    dure.wait_end(&unit);
    // What a user sees meanwhile; and a moment that lies between the program's end and the restart.
    assert!(dure.cli(&["ps"]).expect(3).stderr.contains("dure up"));
    let marker = dure.write_file("marker", "");
    dure.restart();
    let detail = assert_trained_once(&dure, &run);
    let ended = detail.attempts[0].ended_at.expect("an end").micros();
    let late = ended - modified(&marker);
    assert!(late <= 0, "billed for {late} us without a control plane");
}

fn modified(path: &Path) -> i64 {
    use std::os::unix::fs::MetadataExt as _;
    let facts = fs::metadata(path).expect("the file");
    facts.mtime() * 1_000_000 + facts.mtime_nsec() / 1_000
}

/// Four jobs that only say that they began: 16 events, four to each change of state. The control plane is killed
/// after so many of them; 0 is right after the answer.
fn killed_at_any_moment(mut dure: Dure) {
    let begun = dure.work().join("begun");
    fs::write(&begun, "").expect("a file");
    let mut known = Vec::new();
    for round in [0_usize, 1, 2, 4, 5, 7, 8, 9, 11, 12, 13, 15] {
        let job = |number: usize| {
            format!(
                "kind: job\nname: job-{number}\nparameters: {{round: {round}}}\nresources: {{cpu: 100m}}\n\
                 command: echo \"$DURE_RUN $DURE_ATTEMPT\" >> {}\n",
                begun.display()
            )
        };
        dure.write_file("jobs.yaml", (0..4).map(job).collect::<Vec<_>>().join("---\n"));
        let last = events(&dure).last().map_or(0, |event| event.sequence);
        let apply = dure.spawn(&["apply", "-f", "jobs.yaml", "--yes", "--detach"]);
        let apply = if round == 0 {
            apply.wait().expect(0);
            None
        } else {
            let mut seen = 0;
            dure.wait_event(|event| {
                seen += usize::from(event.sequence > last);
                seen == round
            });
            Some(apply)
        };
        dure.kill();
        // It may have been in the middle of its answer; what was written counts.
        drop(apply);
        dure.restart();
        let runs = dure.json(&["ps", "--all"]);
        let mut all: Vec<String> = runs["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|run| run["id"].as_str().expect("an id").to_owned())
            .collect();
        all.sort();
        assert_eq!(all.len(), known.len() + 4, "round {round}: accepted as a whole and not lost");
        for run in all.iter().filter(|run| !known.contains(*run)) {
            let detail = dure.wait_run(run, |run| run.state.is_over());
            assert_eq!(detail.run.state, RunState::Succeeded, "round {round}: {:?}", detail.run.reason);
            assert_eq!(detail.attempts.len(), 1, "round {round}: {:?}", detail.attempts);
            assert_billed_once(&dure, &detail);
        }
        known = all;
        let mut lines: Vec<_> = fs::read_to_string(&begun).expect("begun").lines().map(str::to_owned).collect();
        lines.sort();
        let expected: Vec<_> = known.iter().map(|run| format!("{run} 1")).collect();
        assert_eq!(lines, expected, "round {round}: every run began exactly once");
    }
    // Each was told to be over exactly once.
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for event in events(&dure).into_iter().filter(|event| event.resource == "run" && event.action == "succeeded") {
        *ends.entry(event.subject).or_default() += 1;
    }
    assert!(ends.len() == known.len() && ends.values().all(|count| *count == 1), "{ends:?}");
}

fn events(dure: &Dure) -> Vec<Event> {
    let listed = dure.json(&["event", "list", "--limit", "1000"]);
    serde_json::from_value(listed["items"].clone()).expect("events")
}

#[test]
fn accepted_work_is_neither_lost_nor_done_twice_at_whatever_moment_of_a_kill() {
    killed_at_any_moment(dure());
}

#[test]
fn accepted_work_is_neither_lost_nor_done_twice_on_postgresql() {
    if dure_testkit::postgres_is_given() {
        killed_at_any_moment(builder().postgres().start());
    }
}

#[test]
fn a_followed_log_goes_on_over_a_kill_without_a_gap_or_a_repetition() {
    let mut dure = dure();
    let gate = Gate::new(&dure.work().join("gate"));
    let command = format!("seq 1 500; {}; seq 501 1000; {}; echo end", gate.wait(), gate.wait());
    let run = start(&dure, "long", &[], &command);
    let follower = dure.spawn(&["logs", "-f", &run]);
    assert!(follower.wait_stdout("\n500\n"));
    dure.kill();
    gate.open();
    dure.restart();
    assert!(follower.wait_stdout("\n1000\n"));
    gate.open();
    let expected: String = (1..=1000).map(|number| format!("{number}\n")).chain(["end\n".to_owned()]).collect();
    assert_eq!(follower.wait().expect(0).stdout, expected);
}

#[test]
fn an_environment_is_built_on_while_the_control_plane_is_killed() {
    let Some(mut dure) = with_packages() else { return };
    dure.write_file(
        "job.yaml",
        "kind: job\nname: imports\nenvironment: {packages: [numpy]}\ncommand: python -c 'import numpy; print(numpy.arange(3))'\n",
    );
    dure.cli(&["apply", "-f", "job.yaml", "--yes", "--detach"]).expect(0);
    let build = dure.wait_event(|event| {
        event.resource == "run"
            && event.action == "running"
            && dure.json(&["show", &event.subject])["run"]["kind"] == "build"
    });
    dure.kill();
    dure.restart();
    let job = dure.wait_run_state(&dure.run_of("imports"), RunState::Succeeded);
    assert_eq!(job.attempts.len(), 1);
    let built = dure.wait_run_state(&build.subject, RunState::Succeeded);
    assert_eq!(built.attempts.len(), 1);
    assert_billed_once(&dure, &built);
    assert_eq!(dure.cli(&["logs", "imports"]).expect(0).stdout, "[0 1 2]\n");
    let builds = dure.json(&["ps", "--all", "--kind", "build"]);
    assert_eq!(builds["items"].as_array().map(Vec::len), Some(1));
}

/// The keeper is the parent of units: when it is killed, the next one can only watch them.
#[test]
fn a_unit_outlives_its_keeper_and_its_exit_code_is_told_where_the_kernel_remembers_it() {
    let dure = dure();
    let gate = Gate::new(&dure.work().join("gate"));
    let ran = dure.work().join("ran");
    let command = format!("echo \"$DURE_ATTEMPT\" >> {}; echo in; {}; exit 7", ran.display(), gate.wait());
    let run = start(&dure, "orphan", &[], &command);
    dure.wait_log(&run, "in\n");
    let keeper = dure.keeper();
    dure.kill_process(&keeper);
    // The control plane starts another, and can start units with it.
    dure.cli(&["run", "--name", "next", "--cpu", "100m", "--", "true"]).expect(0);
    assert_ne!(dure.keeper().pid, keeper.pid);
    assert_eq!(dure.wait_run(&run, |_| true).run.state, RunState::Running);
    gate.open();
    let ended = dure.wait_run(&run, |run| run.state.is_over() || run.attempt > 1);
    let first = &ended.attempts[0];
    match first.exit_code {
        Some(code) => {
            assert_eq!(code, 7);
            assert_eq!(ended.run.state, RunState::Failed);
            assert_eq!(fs::read_to_string(&ran).expect("ran"), "1\n");
        }
        // An older kernel forgets the exit code of a child that was not ours: then it is not guessed.
        None => {
            assert!(!kernel_remembers_exit_codes(), "{first:?}");
            assert_eq!(first.reason.as_ref().map(|reason| reason.code), Some(ReasonCode::MachineLost));
        }
    }
}

/// Linux 6.15 and later tell it through a pidfd.
fn kernel_remembers_exit_codes() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split('.').map(|number| number.trim().parse::<u32>().unwrap_or_default());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

#[test]
fn sigterm_leaves_units_running_and_down_ends_them() {
    let mut dure = dure();
    let gate = Gate::new(&dure.work().join("gate"));
    let run = start(&dure, "long", &[], &format!("echo in; {}", gate.wait()));
    dure.wait_log(&run, "in\n");
    let unit = dure.process(|command| command.contains("read line"));
    let said = dure.terminate().expect(0);
    assert!(said.stderr.contains("what runs goes on"), "{said}");
    assert!(dure.processes().contains(&unit));
    dure.restart();
    assert_eq!(dure.wait_run(&run, |_| true).run.state, RunState::Running);
    assert_eq!(dure.process(|command| command.contains("read line")), unit);
    let ended = dure.down();
    assert_eq!(ended, serde_json::json!({"runs": 1, "services": {}, "keeper": true}));
    assert_eq!(dure.processes(), Vec::<Process>::new());

    // It was ended on purpose, and is told so after the next start.
    dure.restart();
    let ended = dure.wait_run_state(&run, RunState::Cancelled);
    assert_eq!(ended.run.reason.map(|reason| reason.code), Some(ReasonCode::ShutDown));
    assert!(ended.attempts[0].ended_at.is_some());
}

#[test]
fn a_service_answers_again_after_a_kill_with_the_same_replica_and_down_ends_it() {
    let Some(mut dure) = with_packages() else { return };
    dure.write_file("served.onnx", MODEL);
    dure.cli(&["model", "register", "served.onnx"]).expect(0);
    dure.write_file(
        "service.yaml",
        "kind: service\nname: served\nmodel: served@latest\nreplicas: 2\nresources: {cpu: 200m}\n",
    );
    dure.cli(&["apply", "-f", "service.yaml", "--yes"]).expect(0);
    let replicas = |dure: &Dure| -> Vec<Process> {
        dure.processes().into_iter().filter(|process| process.command.contains("model-server")).collect()
    };
    let ask = |dure: &Dure| {
        let model = dure.json(&["show", "model/served@1"]);
        let width = model["signature"]["inputs"][0]["shape"][1].as_u64().expect("a width");
        let row = vec![1.0; usize::try_from(width).expect("a width")];
        let body = serde_json::json!({"rows": [row]});
        dure.http("POST", "/s/default/served/predict", Some(dure.token()), Some(&body))
    };
    let before = replicas(&dure);
    assert_eq!(before.len(), 2);
    let answer = ask(&dure);
    assert_eq!(answer.status, 200, "{}", answer.text);

    dure.kill();
    dure.restart();
    dure.wait_service("served", |service| service.replicas.iter().filter(|replica| replica.ready).count() == 2);
    assert_eq!(ask(&dure).text, answer.text);
    assert_eq!(replicas(&dure), before, "the same processes");
    let runs = dure.json(&["ps", "--all", "--kind", "replica"]);
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(2));

    assert_eq!(dure.down()["services"], serde_json::json!({"served": 2}));
}
