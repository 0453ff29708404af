//! Two projects in one installation: what one has, the other can neither see nor name, even with its digest or id.

use dure_testkit::{Dure, Response};
use serde_json::{Value, json};

use crate::{
    runs::start,
    support::{dure, with_packages},
};

const MODEL: &[u8] = include_bytes!("../../crates/modelserver/tests/fixtures/classifier_tensor.onnx");

/// A user who is an admin of a project of their own, `theirs`, and nothing in `default`; their token.
fn stranger(dure: &Dure) -> String {
    dure.cli(&["project", "create", "theirs"]).expect(0);
    dure.cli(&["user", "create", "lee"]).expect(0);
    dure.cli(&["project", "add", "lee", "--role", "admin", "--project", "theirs"]).expect(0);
    let token = dure.json(&["token", "create", "--user", "lee"]);
    token["secret"].as_str().or(token["token"].as_str()).unwrap_or_else(|| panic!("no token in {token}")).to_owned()
}

/// The same answer, but for the name that was asked for.
#[track_caller]
fn assert_as_absent(real: &Response, name: &str, absent: &Response, other: &str) {
    assert_eq!(real.status, 404, "{real:?}");
    assert_eq!(absent.status, 404, "{absent:?}");
    assert_eq!(real.text.replace(name, "X"), absent.text.replace(other, "X"));
}

#[test]
fn what_a_project_has_does_not_exist_for_a_stranger() {
    let dure = dure();
    let lee = stranger(&dure);
    dure.write_file("data/secret.csv", "a,b\n1,2\n");
    dure.write_file("secret.onnx", MODEL);
    dure.cli(&["dataset", "create", "secret", "data"]).expect(0);
    dure.cli(&["model", "register", "secret.onnx"]).expect(0);
    let run = start(&dure, "secret", &[], "echo secret");
    dure.wait_run(&run, |run| run.state.is_over());

    let get = |path: &str| dure.http("GET", &format!("/api/v1{path}"), Some(&lee), None);
    // The project itself, and everything below it.
    for below in ["runs", "datasets", "models", "services", "environments", "events", "members"] {
        let real = get(&format!("/projects/default/{below}"));
        assert_as_absent(&real, "default", &get(&format!("/projects/nothing/{below}")), "nothing");
    }
    // By its id or name, in their own project.
    for (place, name, other) in [
        ("runs", run.as_str(), "0123456789abcdef0123"),
        ("datasets", "secret", "nothing"),
        ("models", "secret", "nothing"),
    ] {
        let real = get(&format!("/projects/theirs/{place}/{name}"));
        assert_as_absent(&real, name, &get(&format!("/projects/theirs/{place}/{other}")), other);
    }
    for command in [&["show", &run][..], &["logs", &run], &["why", &run], &["stop", &run]] {
        let refused = dure.cli_as(&lee, "theirs", command).expect(5);
        assert!(!refused.stderr.contains("secret"), "{refused}");
        dure.cli_as(&lee, "default", command).expect(5);
    }
    let everything = [
        get("/projects"),
        get("/cost?by=run"),
        get("/tokens"),
        get("/projects/theirs/runs"),
        get("/projects/theirs/events"),
        get("/projects/theirs/datasets"),
    ];
    for answer in everything {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!answer.text.contains("secret") && !answer.text.contains(&run), "{answer:?}");
        assert!(!answer.text.contains("\"project\":\"default\""), "{answer:?}");
    }
    let projects = get("/projects").json();
    assert_eq!(projects["items"].as_array().map(Vec::len), Some(1), "{projects}");
    assert_eq!(get("/users").status, 403);
}

#[test]
fn a_digest_is_no_key_to_what_another_project_uploaded() {
    let dure = dure();
    let lee = stranger(&dure);
    dure.write_file("data/secret.csv", "a,b\n1,2\n");
    dure.write_file("secret.onnx", MODEL);
    dure.cli(&["dataset", "create", "secret", "data"]).expect(0);
    dure.cli(&["model", "register", "secret.onnx"]).expect(0);
    let dataset = dure.json(&["dataset", "show", "secret@1"]);
    let (manifest, files) = (dataset["manifest"].clone(), dataset["contents"]["files"].clone());
    let blob = files[0]["digest"].clone();
    assert!(manifest.is_string() && blob.is_string(), "{dataset}");
    let model = dure.json(&["show", "model/secret@1"])["manifest"].clone();

    let post = |path: &str, body: &Value| {
        dure.http("POST", &format!("/api/v1/projects/theirs/{path}"), Some(&lee), Some(body))
    };
    // It is not there until they have uploaded it themselves, though the disk has it.
    let missing = post("blobs/missing", &json!({"digests": [blob]})).json();
    assert_eq!(missing["missing"][0]["digest"], blob);
    let job = |more: Value| {
        let mut document = json!({"spec": {"name": "peek", "command": "true"}});
        document.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        document
    };
    for (path, body) in [
        ("manifests", json!({"files": files})),
        ("datasets/mine/versions", json!({"manifest": manifest})),
        ("models/mine/versions", json!({"manifest": model})),
        ("runs", job(json!({"code": manifest}))),
        ("runs", job(json!({"spec": {"name": "peek", "command": "true", "data": {"x": "secret@1"}}}))),
        ("apply", json!({"documents": [{"service": {"name": "peek", "model": "secret@1"}}]})),
        ("apply", json!({"documents": [{"job": job(json!({"code": manifest}))}]})),
        ("apply", json!({"documents": [{"dataset": {"spec": {"name": "mine", "source": "."}, "manifest": manifest}}]})),
    ] {
        let refused = post(path, &body);
        assert!((400..500).contains(&refused.status), "{path} {body}: {refused:?}");
        assert!(!refused.text.contains("secret.csv"), "{refused:?}");
    }
    for list in ["runs", "datasets", "models", "services"] {
        let listed = dure.http("GET", &format!("/api/v1/projects/theirs/{list}"), Some(&lee), None).json();
        assert_eq!(listed["items"], json!([]), "{list}");
    }
}

#[test]
fn a_service_of_another_project_is_as_one_that_is_not_there() {
    let Some(dure) = with_packages() else { return };
    let lee = stranger(&dure);
    dure.write_file("secret.onnx", MODEL);
    dure.cli(&["model", "register", "secret.onnx"]).expect(0);
    dure.write_file("service.yaml", "kind: service\nname: secret\nmodel: secret@1\nresources: {cpu: 200m}\n");
    dure.cli(&["apply", "-f", "service.yaml", "--yes"]).expect(0);

    let body = json!({"rows": [[1.0, 2.0, 3.0, 4.0]]});
    let ask = |place: &str, token: Option<&str>| dure.http("POST", &format!("/s/{place}/predict"), token, Some(&body));
    assert_eq!(ask("default/secret", Some(dure.token())).status, 200);
    assert_as_absent(&ask("default/secret", Some(&lee)), "secret", &ask("default/nothing", Some(&lee)), "nothing");
    assert_as_absent(&ask("default/secret", Some(&lee)), "default", &ask("nothing/secret", Some(&lee)), "nothing");
    // Who says nothing of themselves learns nothing either.
    for token in [None, Some("dure_wrong")] {
        let (real, absent) = (ask("default/secret", token), ask("default/nothing", token));
        assert_eq!(real.status, 401);
        assert_eq!(real, absent);
    }

    // Let in, they are served at once; put out, they are not, without a restart.
    dure.cli(&["project", "add", "lee", "--role", "viewer"]).expect(0);
    assert_eq!(ask("default/secret", Some(&lee)).status, 200);
    dure.cli(&["project", "remove", "lee"]).expect(0);
    assert_eq!(ask("default/secret", Some(&lee)).status, 404);
}
