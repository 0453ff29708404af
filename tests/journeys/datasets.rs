//! Datasets: uploaded, found, renamed, downloaded, and not deleted while something names them.

use std::{collections::BTreeMap, fs, process::Command};

use dure_testkit::Gate;
use dure_types::run::RunState;

use crate::support::dure;

#[test]
fn a_dataset_lives_from_its_first_version_to_its_deletion() {
    let dure = dure();
    dure.write_file("data/a.csv", "a,b\n1,2\n");
    dure.write_file("data/deep/b.bin", vec![7; 300_000]);
    dure.cli(&["dataset", "create", "numbers", "data"]).expect(0);
    dure.cli(&["dataset", "create", "other", "data/a.csv"]).expect(0);

    let names = |arguments: &[&str]| -> Vec<String> {
        let listed = dure.json(arguments);
        listed["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|one| one["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(names(&["dataset", "list"]).len(), 2);
    assert_eq!(names(&["dataset", "list", "--search", "umb"]), ["numbers"]);
    assert!(names(&["dataset", "list", "--search", "%"]).is_empty(), "a pattern is no text");

    // A second version has what changed and what stayed; the same content again is no version.
    dure.write_file("data/a.csv", "a,b\n3,4\n");
    dure.cli(&["dataset", "create", "numbers", "data"]).expect(0);
    dure.cli(&["dataset", "create", "numbers", "data"]).expect(0);
    let latest = dure.json(&["dataset", "show", "numbers@latest"]);
    assert_eq!((&latest["version"], &latest["bytes"]), (&2.into(), &300_008.into()), "{latest}");

    dure.cli(&["dataset", "download", "numbers@1", "--to", "one.zip"]).expect(0);
    dure.cli(&["dataset", "download", "numbers@1", "--to", "one.zip"]).expect(2);
    assert_eq!(unzip(&dure.work()), BTreeMap::from([("a.csv".to_owned(), 8), ("deep/b.bin".to_owned(), 300_000)]));
    assert_eq!(fs::read_to_string(dure.work().join("out/a.csv")).expect("the file"), "a,b\n1,2\n");

    dure.cli(&["dataset", "rename", "numbers", "figures"]).expect(0);
    dure.cli(&["dataset", "show", "numbers"]).expect(5);
    assert_eq!(dure.json(&["dataset", "show", "figures@1"])["version"], 1);
    dure.cli(&["dataset", "rename", "figures", "other"]).expect(1);

    // What a run reads stays while it runs; and what it does to its copy, nobody else sees.
    let gate = Gate::new(&dure.work().join("gate"));
    dure.write_file(
        "job.yaml",
        format!(
            "kind: job\nname: sum\ndata: {{mine: figures@latest}}\n\
             command: cd $DURE_DATA/mine; cat a.csv; chmod u+w . a.csv; echo spoiled > a.csv; {}\n",
            gate.wait()
        ),
    );
    dure.cli(&["apply", "-f", "job.yaml", "--yes", "--detach"]).expect(0);
    let run = dure.run_of("sum");
    dure.wait_log(&run, "a,b\n3,4\n");
    let refused = dure.cli(&["dataset", "delete", "figures"]).expect(1);
    assert!(refused.stderr.contains(&run) && refused.stderr.contains("sum"), "{refused}");
    gate.open();
    dure.wait_run_state(&run, RunState::Succeeded);
    fs::remove_file(dure.work().join("one.zip")).expect("the file");
    dure.cli(&["dataset", "download", "figures@2", "--to", "one.zip"]).expect(0);
    unzip(&dure.work());
    assert_eq!(fs::read_to_string(dure.work().join("out/a.csv")).expect("the file"), "a,b\n3,4\n");
    gate.open();
    dure.cli(&["apply", "-f", "job.yaml", "--yes", "--rerun"]).expect(0);
    assert_eq!(dure.cli(&["logs", "sum"]).expect(0).stdout, "a,b\n3,4\n");

    dure.cli(&["dataset", "delete", "other"]).expect(0);
    dure.cli(&["dataset", "delete", "other"]).expect(5);
    assert_eq!(names(&["dataset", "list"]), ["figures"]);

    // A model remembers what it was made from for as long as it is there.
    dure.write_file("code/model.onnx", include_bytes!("../../crates/modelserver/tests/fixtures/regressor.onnx"));
    dure.write_file(
        "model.yaml",
        "kind: job\nname: make\ncode: code\ndata: {mine: figures@1}\ncommand: cp model.onnx $DURE_OUTPUT\n\
         outputs: {model: {name: made, path: model.onnx}}\n",
    );
    dure.cli(&["apply", "-f", "model.yaml", "--yes"]).expect(0);
    let refused = dure.cli(&["dataset", "delete", "figures"]).expect(1);
    assert!(refused.stderr.contains("model made@1"), "{refused}");
}

/// Unpacks `one.zip` into `out` with another program than ours; names and sizes.
fn unzip(work: &std::path::Path) -> BTreeMap<String, u64> {
    let _ = fs::remove_dir_all(work.join("out"));
    let script = "import json, sys, zipfile\n\
        archive = zipfile.ZipFile('one.zip')\n\
        assert archive.testzip() is None\n\
        archive.extractall('out')\n\
        print(json.dumps({one.filename: one.file_size for one in archive.infolist() if not one.is_dir()}))";
    let output = Command::new("python3").args(["-c", script]).current_dir(work).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("names")
}
