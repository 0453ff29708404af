//! Runs without packages: followed, queued, stopped, tried again, timed out, and named by the beginning of their id.

use std::collections::HashMap;

use dure_testkit::{Dure, Gate, block_on};
use dure_types::run::{ReasonCode, RunState};
use rustix::process::Signal;

use crate::support::dure;

/// All cores of the machine, as the spec writes them.
pub fn all_cores(dure: &Dure) -> String {
    let nodes = dure.json(&["node", "list"]);
    format!("{}m", nodes["items"][0]["facts"]["cpu_milli"].as_u64().expect("cores"))
}

/// Starts `dure run` detached and returns the run's whole id.
pub fn start(dure: &Dure, name: &str, options: &[&str], command: &str) -> String {
    let mut arguments = vec!["run", "--detach", "--name", name];
    arguments.extend(options);
    arguments.extend(["-o", "json", "--", command]);
    dure.cli(&arguments).expect(0).json()["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_command_is_run_with_its_environment_and_its_failure_is_the_exit_code() {
    let dure = dure();
    let said = dure.cli(&["run", "--name", "hello", "--env", "GREETING=good day", "--", "echo \"$GREETING\""]);
    assert!(said.expect(0).stdout.contains("│ good day"));

    let failed = dure.cli(&["run", "--name", "bad", "--", "echo broken >&2; exit 7"]).expect(1);
    assert!(failed.stderr.contains("exit 7") && failed.stderr.contains("dure logs"), "{failed}");
    let bad = dure.json(&["show", "job/bad"]);
    assert_eq!((&bad["run"]["state"], &bad["attempts"][0]["exit_code"]), (&"failed".into(), &7.into()));
    assert_eq!(dure.cli(&["logs", "bad"]).expect(0).stdout, "broken\n");

    // Nothing of the environment that the control plane was started in, and what a unit is promised.
    dure.cli(&["run", "--name", "env", "--cpu", "1", "--", "env"]).expect(0);
    let env = dure.cli(&["logs", "env"]).expect(0).stdout;
    let env: HashMap<_, _> = env.lines().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(env.get("LANG"), Some(&"C.UTF-8"));
    assert_eq!(env.get("OMP_NUM_THREADS"), Some(&"1"));
    assert_eq!(env.get("DURE_PROJECT"), Some(&"default"));
    assert!(!env.contains_key("DURE_CONFIG_DIR") && !env.contains_key("DURE_TOKEN"), "{env:?}");
    assert!(env["HOME"].starts_with(&dure.data_dir().display().to_string()), "{env:?}");
}

#[test]
fn an_interrupted_follower_leaves_the_run_alone_and_finds_it_again() {
    let dure = dure();
    let gate = Gate::new(&dure.work().join("gate"));
    let followed = dure.spawn(&["run", "--name", "long", "--", &format!("echo one; {}; echo two", gate.wait())]);
    assert!(followed.wait_stdout("│ one"));
    followed.signal(Signal::INT);
    let left = followed.wait().expect(130);
    assert!(left.stderr.contains("dure logs -f"), "{left}");

    let again = dure.spawn(&["logs", "-f", "long"]);
    assert!(again.wait_stdout("one\n"));
    gate.open();
    assert_eq!(again.wait().expect(0).stdout, "one\ntwo\n");
    dure.wait_run_state(&dure.run_of("long"), RunState::Succeeded);
}

#[test]
fn a_run_that_waits_says_for_whom_and_starts_when_they_are_stopped() {
    let dure = dure();
    let gate = Gate::new(&dure.work().join("gate"));
    let cores = all_cores(&dure);
    let holder = start(&dure, "holder", &["--cpu", &cores, "--timeout", "1h"], &gate.wait());
    dure.wait_run_state(&holder, RunState::Running);
    let waiting = start(&dure, "waiting", &["--cpu", &cores], "echo in");

    // It is written before it stands in the queue; that moment is short, but nothing tells of it.
    let why = (0..100).map(|_| dure.json(&["why", &waiting])).find(|why| why["place"].is_u64()).expect("a place");
    assert_eq!(why["state"], "queued");
    assert_eq!(why["place"], 1);
    assert_eq!(why["held_by"][0]["run"], *holder);
    assert!(why["starts_by"].is_string(), "the holder ends in an hour at the latest: {why}");
    let said = dure.cli(&["why", "waiting"]).expect(0).stdout;
    assert!(said.contains(&holder[..6]) && said.contains("waiting"), "{said}");
    let listed = dure.json(&["ps", "--state", "queued"]);
    assert_eq!(listed["items"][0]["reason"]["code"], "resources", "{listed}");

    dure.cli(&["stop", "holder"]).expect(0);
    let stopped = dure.wait_run_state(&holder, RunState::Cancelled).run;
    assert_eq!(stopped.reason.map(|reason| reason.code), Some(ReasonCode::StoppedByUser));
    dure.wait_run_state(&waiting, RunState::Succeeded);

    // One that waits can be stopped as well, and one that is over cannot be waited for.
    let holder = start(&dure, "holder", &["--cpu", &cores], &gate.wait());
    let waiting = start(&dure, "waiting", &["--cpu", &cores], "echo in");
    dure.cli(&["stop", &waiting]).expect(0);
    let stopped = dure.wait_run_state(&waiting, RunState::Cancelled);
    assert!(stopped.attempts.is_empty(), "it never started");
    gate.open();
    dure.wait_run_state(&holder, RunState::Succeeded);
    assert!(dure.cli(&["why", &holder]).expect(0).stdout.contains("succeeded"));
}

#[test]
fn a_failed_attempt_is_followed_by_as_many_as_the_spec_says() {
    let dure = dure();
    let lines = dure.work().join("attempts");
    let command = format!("echo \"$DURE_ATTEMPT\" >> {}; exit $((3 - DURE_ATTEMPT))", lines.display());
    let job = |name: &str, failed: u32| {
        format!("kind: job\nname: {name}\ncommand: '{command}'\nretries: {{failed: {failed}}}\n")
    };
    dure.write_file("patient.yaml", job("patient", 2));
    dure.cli(&["apply", "-f", "patient.yaml", "--yes"]).expect(0);
    let run = dure.json(&["show", "job/patient"]);
    let codes: Vec<_> =
        run["attempts"].as_array().expect("attempts").iter().map(|one| one["exit_code"].as_i64()).collect();
    assert_eq!(codes, [Some(2), Some(1), Some(0)]);
    assert_eq!(std::fs::read_to_string(&lines).expect("lines"), "1\n2\n3\n");

    dure.write_file("hasty.yaml", job("hasty", 1));
    dure.cli(&["apply", "-f", "hasty.yaml", "--yes"]).expect(1);
    assert_eq!(dure.json(&["show", "job/hasty"])["run"]["attempt"], 2);
    // A failed job is started again, and the plan says so.
    let plan = dure.cli(&["plan", "-f", "hasty.yaml"]).expect(0).stdout;
    assert!(plan.contains("exit 1"), "{plan}");
    dure.cli(&["apply", "-f", "hasty.yaml", "--yes"]).expect(1);
    assert_eq!(dure.json(&["ps", "--all", "--name", "hasty"])["items"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_run_ends_at_its_time_limit_with_all_that_it_started() {
    let dure = dure();
    let gate = Gate::new(&dure.work().join("never"));
    // Ended too: a process in a session of its own whose parent has left it.
    let command = format!("(setsid sh -c '{0}' &); echo in; {0}", gate.wait());
    let ended = dure.cli(&["run", "--name", "slow", "--timeout", "1s", "--", &command]).expect(1);
    assert!(ended.stderr.contains("time limit"), "{ended}");
    let run = dure.json(&["show", "job/slow"]);
    assert_eq!(run["run"]["reason"]["code"], "timed_out");
    let left: Vec<_> = dure.processes().into_iter().filter(|process| process.command.contains("never")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_beginning_of_an_id_is_enough_while_it_is_unique() {
    let dure = dure();
    let gate = Gate::new(&dure.work().join("gate"));
    let cores = all_cores(&dure);
    let holder = start(&dure, "holder", &["--cpu", &cores], &gate.wait());
    assert_eq!(dure.json(&["show", &holder[..4]])["run"]["id"], *holder);
    assert_eq!(dure.json(&["show", &holder[..7]])["run"]["id"], *holder);

    // Runs that only wait, until two ids begin alike: among 400 random ones that is more likely than not.
    let client = dure.client();
    let job = serde_json::json!({"spec": {"name": "waiting", "command": "true", "resources": {"cpu": cores}}});
    let job = serde_json::from_value(job).expect("a job");
    let mut seen: HashMap<String, String> = HashMap::from([(holder[..4].to_owned(), holder.clone())]);
    let alike = loop {
        let run = block_on(client.create_run(&job)).expect("a run").id.to_string();
        if seen.insert(run[..4].to_owned(), run.clone()).is_some() {
            break run[..4].to_owned();
        }
    };
    let ambiguous = dure.cli(&["show", &alike]).expect(2);
    assert!(ambiguous.stderr.contains(&alike), "{ambiguous}");

    let unknown = (0_u16..).map(|n| format!("{n:04x}")).find(|id| !seen.contains_key(id)).expect("one");
    for command in ["show", "logs", "why", "stop"] {
        let missing = dure.cli(&[command, &unknown]).expect(5);
        assert!(missing.stderr.contains(&unknown), "{missing}");
    }
    dure.cli(&["show", "model/none@1"]).expect(5);
    dure.cli(&["show", "service/none"]).expect(5);
    dure.cli(&["predict", "none", "--input", "/dev/null"]).expect(2);
}

#[test]
fn every_list_is_read_by_programs() {
    let dure = dure();
    dure.cli(&["run", "--name", "one", "--", "true"]).expect(0);
    for command in [
        &["ps", "--all"][..],
        &["dataset", "list"],
        &["model", "list"],
        &["environment", "list"],
        &["service", "list"],
        &["node", "list"],
        &["event", "list"],
        &["project", "list"],
        &["project", "members"],
        &["user", "list"],
        &["token", "list"],
    ] {
        let listed = dure.json(command);
        assert!(listed["items"].is_array(), "{command:?}: {listed}");
        let yaml: Vec<&str> = command.iter().copied().chain(["-o", "yaml"]).collect();
        assert!(dure.cli(&yaml).expect(0).stdout.starts_with("items:"), "{command:?}");
    }
    for command in [&["cost"][..], &["show", "job/one"], &["why", "one"], &["schema"]] {
        assert!(dure.json(command).is_object(), "{command:?}");
    }
}
