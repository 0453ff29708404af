//! The main job with the example that ships: data, environment, training, model, service, prediction, cost.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use dure_testkit::Dure;
use dure_types::run::RunState;
use serde_json::{Value, json};

use crate::support::with_packages;

/// The example's folder, copied to where commands run.
fn digits(dure: &Dure) {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("the example") {
            let entry = entry.expect("the example");
            let target = to.join(entry.file_name());
            if entry.file_type().expect("the example").is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).expect("a copy");
            }
        }
    }
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits"), &dure.work());
}

fn items(value: &Value) -> &Vec<Value> {
    value["items"].as_array().unwrap_or_else(|| panic!("no items in {value}"))
}

fn runs(dure: &Dure, name: &str) -> usize {
    items(&dure.json(&["ps", "--all", "--name", name])).len()
}

/// The digits after `accuracy `.
fn accuracy(text: &str) -> f64 {
    let said = text.rsplit("accuracy ").next().unwrap_or_default();
    let number: String = said.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    number.parse().unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_example_goes_from_data_to_a_prediction_and_its_cost() {
    let Some(dure) = with_packages() else { return };
    digits(&dure);

    // Looking changes nothing, and neither does an apply that cannot ask.
    let plan = dure.cli(&["plan", "-f", "dure.yaml"]).expect(0).stdout;
    for word in ["dataset", "digits", "environment", "sklearn", "job", "train-digits", "service", "$", "why here"] {
        assert!(plan.contains(word), "`{word}` is missing in: {plan}");
    }
    let refused = dure.cli(&["apply", "-f", "dure.yaml"]).expect(2);
    assert!(refused.stderr.contains("--yes"), "{refused}");
    assert!(items(&dure.json(&["ps", "--all"])).is_empty());
    assert!(items(&dure.json(&["dataset", "list"])).is_empty());

    let applied = dure.cli(&["apply", "-f", "dure.yaml", "--yes"]).expect(0).stdout;
    for line in ["environment sklearn", "│ wrote model.onnx", "model digits@1", "service digits   ready"] {
        assert!(applied.contains(line), "`{line}` is missing in: {applied}");
    }
    run_log_and_metrics(&dure);
    let first = dure.run_of("train-digits");
    lineage(&dure, &first);
    prediction(&dure, "1");
    cost(&dure);

    // What is there already is not made again.
    let again = dure.cli(&["apply", "-f", "dure.yaml", "--yes"]).expect(0).stdout;
    assert!(again.contains("nothing to change"), "{again}");
    assert_eq!(runs(&dure, "train-digits"), 1);

    a_new_version_reaches_the_service_with_the_next_apply(&dure, &first);

    assert_eq!({ dure }.down()["services"], serde_json::json!({"digits": 1}));
}

fn run_log_and_metrics(dure: &Dure) {
    let run = dure.run_of("train-digits");
    let shown = dure.json(&["show", &run[..4]]);
    assert_eq!(shown["run"]["state"], "succeeded");
    assert_eq!(shown["run"]["attempt"], 1);
    assert_eq!(shown["inputs"], serde_json::json!(["digits@1"]));
    assert_eq!(shown["outputs"][0]["name"], "digits");
    assert_eq!(shown["outputs"][0]["version"], 1);

    let log = dure.cli(&["logs", "train-digits"]).expect(0).stdout;
    assert!(log.contains("images to train on") && !log.contains("##dure"), "{log}");
    let raw = dure.cli(&["logs", &run, "--raw"]).expect(0).stdout;
    assert_eq!(raw.matches("##dure ").count(), 20, "one report an epoch: {raw}");

    let path = format!("/api/v1/projects/default/runs/{run}/metrics");
    let metrics = dure.http("GET", &path, Some(dure.token()), None).json();
    let steps: Vec<_> =
        items(&metrics).iter().filter(|point| point["name"] == "accuracy").map(|point| &point["step"]).collect();
    assert_eq!(steps, (1..=20).map(Value::from).collect::<Vec<_>>().iter().collect::<Vec<_>>());
}

fn lineage(dure: &Dure, run: &str) {
    let model = dure.json(&["show", "model/digits@1"]);
    let lineage = &model["lineage"];
    assert_eq!(lineage["run"], run);
    assert_eq!(lineage["job"], "train-digits");
    assert_eq!(lineage["datasets"], serde_json::json!(["digits@1"]));
    assert!(lineage["code"].is_string() && lineage["environment"].is_string(), "{model}");
    assert!(model["metrics"]["accuracy"].as_f64().expect("accuracy") > 0.9, "{model}");
    assert_eq!(model["signature"]["inputs"][0]["shape"], serde_json::json!([-1, 64]));
    let environment = dure.json(&["show", "environment/sklearn"]);
    assert_eq!(environment["digest"], lineage["environment"]);
    let names: Vec<_> =
        environment["packages"].as_array().expect("packages").iter().map(|package| &package["name"]).collect();
    assert!(names.iter().any(|name| *name == "scikit-learn"), "{environment}");
}

fn prediction(dure: &Dure, version: &str) {
    let arguments = ["predict", "digits", "--input", "held-out.csv", "--truth", "label"];
    let said = dure.cli(&arguments).expect(0).stdout;
    assert!(said.contains("of 360)") && accuracy(&said) > 0.9, "{said}");
    let answer = dure.json(&arguments);
    assert_eq!(answer["model_version"], version);
    assert_eq!(answer["rows"].as_array().map(Vec::len), Some(360));
}

fn cost(dure: &Dure) {
    let report = dure.json(&["cost", "--by", "name"]);
    let mut sum = 0;
    for group in ["build/sklearn", "job/train-digits", "replica/digits"] {
        let is_it = |line: &&Value| line["group"] == group;
        let lines: Vec<_> = report["lines"].as_array().expect("lines").iter().filter(is_it).collect();
        let [line] = lines.as_slice() else { panic!("not one line of {group}: {report}") };
        let (spent, baseline) = (line["spent"].as_i64().expect("spent"), line["baseline"].as_i64().expect("baseline"));
        assert!(spent > 0 && baseline >= spent, "{line}");
        sum += spent;
    }
    assert!(report["spent"].as_i64() >= Some(sum), "{report}");
    assert_eq!(report["assumed"], true);
    let table = dure.cli(&["cost", "--by", "name"]).expect(0).stdout;
    let baseline = report["baseline_name"].as_str().expect("a name");
    assert!(table.contains("baseline:") && !baseline.is_empty(), "{table}");
}

/// Does something while the service is asked again and again from two sides; every request must be answered.
/// Returns how many were.
fn while_asked(dure: &Dure, work: impl FnOnce()) -> usize {
    let body = json!({"rows": [vec![0.0; 64]]});
    let done = AtomicBool::new(false);
    let ask = || {
        let mut answered = 0;
        while !done.load(Ordering::Relaxed) {
            let answer = dure.http("POST", "/s/default/digits/predict", Some(dure.token()), Some(&body));
            assert_eq!(answer.status, 200, "after {answered} answers: {}", answer.text);
            answered += 1;
        }
        answered
    };
    std::thread::scope(|scope| {
        let asking = [scope.spawn(ask), scope.spawn(ask)];
        // Those who ask end in any case: a scope waits for its threads.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = worked {
            std::panic::resume_unwind(panic);
        }
        asking.map(|thread| thread.join().expect("every request is answered")).iter().sum()
    })
}

fn a_new_version_reaches_the_service_with_the_next_apply(dure: &Dure, first: &str) {
    // The job alone, with another parameter.
    let spec = fs::read_to_string(dure.work().join("dure.yaml")).expect("the spec");
    let changed = spec.replace("epochs: 20", "epochs: 5");
    let job = changed.split("---\n").find(|document| document.contains("kind: job")).expect("the job");
    dure.write_file("job.yaml", job);
    let applied = dure.cli(&["apply", "-f", "job.yaml", "--yes"]).expect(0).stdout;
    assert!(applied.contains("model digits@2"), "{applied}");
    assert_eq!(runs(dure, "train-digits"), 2);
    assert_ne!(dure.run_of("train-digits"), first);

    // `latest` has moved; the service has not, and plan says that it would.
    let service = |dure: &Dure| dure.json(&["show", "service/digits"])["revision"].clone();
    assert_eq!(service(dure)["model"], "digits@1");
    prediction(dure, "1");
    dure.write_file("dure.yaml", &changed);
    let plan = dure.cli(&["plan", "-f", "dure.yaml"]).expect(0).stdout;
    assert!(plan.contains("digits@1") && plan.contains("digits@2"), "{plan}");
    let old = dure.run_of("digits");
    let answered = while_asked(dure, || {
        dure.cli(&["apply", "-f", "dure.yaml", "--yes"]).expect(0);
        // Asked until the old replica has ended: it must not take a request with it.
        dure.wait_run_state(&old, RunState::Cancelled);
    });
    assert!(answered > 0);
    assert_eq!(service(dure)["model"], "digits@2");
    assert_eq!(runs(dure, "train-digits"), 2, "the job itself was made before");
    prediction(dure, "2");

    dure.cli(&["model", "alias", "digits@1", "production"]).expect(0);
    assert_eq!(dure.json(&["show", "model/digits@production"])["version"], 1);
    assert_eq!(dure.json(&["show", "model/digits@latest"])["version"], 2);
    dure.cli(&["model", "download", "digits@production", "--to", "one.onnx"]).expect(0);
    let size = dure.json(&["show", "model/digits@1"])["size"].as_u64().expect("a size");
    assert_eq!(fs::metadata(dure.work().join("one.onnx")).expect("the file").len(), size);
}
