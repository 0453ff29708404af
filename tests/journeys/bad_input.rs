//! What people get wrong. Each time: what was wrong, where, what to do next, a stable code, the documented exit code,
//! and nothing that is left behind.

use std::{fs, os::unix::fs::symlink};

use dure_testkit::{Dure, Gate, Output};
use dure_types::run::RunState;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{dure, shared};

const MODEL: &[u8] = include_bytes!("../../crates/modelserver/tests/fixtures/classifier_tensor.onnx");

/// It failed in words: `error:` first, all of the words, the code at the end, and nothing of the machinery.
#[track_caller]
pub fn assert_said(output: &Output, code: &str, words: &[&str]) {
    let said = &output.stderr;
    assert!(said.starts_with("error: "), "{output}");
    for word in words {
        assert!(said.contains(word), "no `{word}` in\n{output}");
    }
    if !code.is_empty() {
        assert!(said.trim_end().ends_with(&format!("({code})")), "no {code} at the end of\n{output}");
    }
    for noise in ["os error", "panicked", "RUST_BACKTRACE", "E0901"] {
        assert!(!said.contains(noise), "`{noise}` in\n{output}");
    }
}

/// Nothing was made: no run, version, environment or service; no process but Dure's own; no unit's folder.
#[track_caller]
pub fn assert_nothing_made(dure: &Dure) {
    for list in [&["ps", "--all"][..], &["dataset", "list"], &["model", "list"], &["environment", "list"]] {
        assert_eq!(dure.json(list)["items"], json!([]), "{list:?}");
    }
    assert_eq!(dure.json(&["service", "list"])["items"], json!([]));
    assert_nothing_runs(dure);
}

#[track_caller]
pub fn assert_nothing_runs(dure: &Dure) {
    let processes = dure.processes();
    assert_eq!(processes.len(), 2, "the control plane and its keeper: {processes:#?}");
    let units = fs::read_dir(dure.data_dir().join("keeper/units")).expect("a folder");
    let units: Vec<_> = units.map(|unit| unit.expect("an entry").file_name()).collect();
    assert!(units.is_empty(), "{units:?}");
}

#[test]
fn a_spec_that_is_wrong_is_refused_with_its_place_and_what_was_meant() {
    let dure = dure();
    dure.write_file("code/train.py", "print(1)");
    dure.write_file("leak/fine", "1");
    symlink("/etc/passwd", dure.work().join("leak/passwd")).expect("a link");
    fs::create_dir(dure.work().join("empty")).expect("a folder");
    let job = |more: &str| format!("kind: job\nname: x\ncommand: echo\n{more}\n");
    let bomb =
        ["b: &b [*a,*a,*a,*a,*a,*a,*a,*a]", "c: &c [*b,*b,*b,*b,*b,*b,*b,*b]", "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]"];
    let bomb =
        format!("parameters:\n  a: &a [x,x,x,x,x,x,x,x]\n  {}\n  e: [*d,*d,*d,*d,*d,*d,*d,*d]", bomb.join("\n  "));
    let cases: &[(&str, String, &str, &[&str])] = &[
        ("a list that is not closed", job("data: [a"), "E0101", &["spec.yaml:4:", "not valid YAML"]),
        ("an indent that fits nothing", "kind: job\nname: x\n  command: y\n".to_owned(), "E0101", &["spec.yaml:3:"]),
        ("nothing", String::new(), "E0101", &["the file says nothing", "dure schema"]),
        ("an alias bomb", job(&bomb), "E0101", &["larger than a spec may be"]),
        (
            "a kind that there is not",
            "kind: jbo\nname: x\n".to_owned(),
            "E0102",
            &["spec.yaml:1:7:", "did you mean `job`?"],
        ),
        (
            "a field at the top",
            job("comand: x"),
            "E0103",
            &["spec.yaml:4:1:", "`comand` in job", "`command`?", "dure schema job"],
        ),
        (
            "a field one level down",
            job("resources: {memmory: 1Gi}"),
            "E0103",
            &[":4:13:", "`memory`?", "dure schema job.resources"],
        ),
        (
            "a field inside a list",
            job("outputs: {model: [{name: m, pth: m.onnx}]}"),
            "E0103",
            &["outputs.model", "`path`?"],
        ),
        (
            "a field of the environment inside",
            job("environment: {package: [six]}"),
            "E0103",
            &["in environment", "`packages`?"],
        ),
        ("a field of a later issue", job("nodes: 2"), "E0103", &["unknown field `nodes`"]),
        ("no command", "kind: job\nname: x\n".to_owned(), "E0105", &["missing field `command` in job"]),
        (
            "a number for python",
            "kind: environment\nname: e\npackages: [six]\npython: 3.10\n".to_owned(),
            "E0104",
            &[":4:9:", "quote it", "\"3.10\""],
        ),
        ("an amount that is none", job("resources: {memory: 1GB4}"), "E0104", &[":4:21:", "512Mi"]),
        (
            "fields where a number is wanted",
            "kind: service\nname: x\nmodel: m\nreplicas: {min: 1}\n".to_owned(),
            "E0104",
            &[":4:", "replicas: expected one value"],
        ),
        ("a name with capitals", "kind: job\nname: My_Job\ncommand: x\n".to_owned(), "E0104", &[":2:7:", "lower-case"]),
        (
            "a requirement that is none",
            job("environment: {packages: [six, \"six=1\"]}"),
            "E0104",
            &["spec.yaml:4:31:", "`=1` is no version"],
        ),
        (
            "a way out of the output",
            job("outputs: {files: {name: f, path: ../../etc}}"),
            "E0104",
            &["not a path inside $DURE_OUTPUT"],
        ),
        (
            "a parameter that there is not",
            "kind: job\nname: x\ncommand: t ${parameters.epoch}\nparameters: {epochs: 1}\n".to_owned(),
            "E0104",
            &["`${parameters.epochs}`?"],
        ),
        ("the same field twice", job("command: other"), "E0106", &["stands here twice, first on line 3"]),
        (
            "the same thing twice",
            format!("{}---\n{}", job(""), job("")),
            "E0106",
            &["job `x` stands in the file twice"],
        ),
        (
            "a folder that is not there",
            job("code: cod"),
            "E0107",
            &["spec.yaml:4:7:", "cod cannot be read", "did you mean `code`?"],
        ),
        (
            "a source elsewhere",
            "kind: dataset\nname: d\nsource: s3://bucket/x\n".to_owned(),
            "E0107",
            &[":3:9:", "not on this machine"],
        ),
        (
            "requirements that are not there",
            job("environment: {requirements: r.txt}"),
            "E0107",
            &[":4:29:", "r.txt cannot be read"],
        ),
        (
            "a link that leaves the folder",
            "kind: dataset\nname: d\nsource: leak\n".to_owned(),
            "E0107",
            &["leak/passwd is a link that leaves the folder", "copy what it names"],
        ),
        (
            "a folder without a file",
            "kind: dataset\nname: d\nsource: empty\n".to_owned(),
            "E0107",
            &["empty has no file to upload"],
        ),
    ];
    for (what, spec, code, words) in cases {
        dure.write_file("spec.yaml", spec);
        for command in [&["apply", "-f", "spec.yaml", "--yes"][..], &["plan", "-f", "spec.yaml"]] {
            let refused = dure.cli(command);
            assert_eq!(refused.code, 2, "{what}: {refused}");
            assert_said(&refused, code, words);
            assert_eq!(refused.stdout, "", "{what}");
        }
    }
    let bytes: &[(&str, Vec<u8>, &[&str])] = &[
        ("no text", b"kind: job\nname: x\ncommand: \"\xff\"\n".to_vec(), &["bytes.yaml:3:11:", "UTF-8", "0xff"]),
        (
            "much too much",
            [b"kind: job\nname: x\ncommand: ".to_vec(), vec![b'a'; 2 << 20]].concat(),
            &["larger than 1024 KiB"],
        ),
    ];
    for (what, spec, words) in bytes {
        dure.write_file("bytes.yaml", spec);
        let refused = dure.cli(&["apply", "-f", "bytes.yaml", "--yes"]);
        assert_eq!(refused.code, 2, "{what}: {refused}");
        assert_said(&refused, "E0101", words);
    }
    assert_nothing_made(&dure);
}

#[test]
fn what_is_named_and_is_not_there_comes_with_what_is_near() {
    let dure = dure();
    dure.write_file("data/a.csv", "1\n");
    dure.write_file("small.onnx", MODEL);
    dure.cli(&["dataset", "create", "digits", "data"]).expect(0);
    dure.cli(&["model", "register", "small.onnx", "--name", "digits"]).expect(0);
    dure.cli(&["run", "--name", "train", "--", "true"]).expect(0);
    let before = dure.json(&["ps", "--all"]);
    let spec = |text: &str| format!("kind: job\nname: x\ncommand: echo\n{text}\n");
    dure.write_file("spec.yaml", spec("data: {d: digts@latest}"));
    dure.write_file("version.yaml", spec("data: {d: digits@9}"));
    dure.write_file("environment.yaml", spec("environment: sklearn"));
    dure.write_file("service.yaml", "kind: service\nname: x\nmodel: digts@latest\n");
    let cases: &[(&[&str], i32, &str, &[&str])] = &[
        (&["apply", "-f", "spc.yaml", "--yes"], 2, "E0107", &["spc.yaml cannot be read", "did you mean `spec.yaml`?"]),
        (&["apply", "-f", ".", "--yes"], 2, "E0107", &[". cannot be read"]),
        (&["apply", "-f", "spec.yaml", "--yes"], 5, "E0201", &["no dataset `digts@latest`", "did you mean `digits`?"]),
        (&["apply", "-f", "version.yaml", "--yes"], 5, "E0201", &["no dataset `digits@9`", "dure dataset show digits"]),
        (
            &["apply", "-f", "environment.yaml", "--yes"],
            5,
            "E0201",
            &["no environment `sklearn`", "dure environment list"],
        ),
        (&["apply", "-f", "service.yaml", "--yes"], 5, "E0201", &["no model `digts@latest`", "did you mean `digits`?"]),
        (&["show", "tran"], 5, "E0201", &["no run or job `tran`", "did you mean `train`?", "dure ps --all"]),
        (&["logs", "ffff"], 5, "E0201", &["no run or job `ffff`"]),
        (&["logs", "train", "--attempt", "9"], 5, "E0201", &["has no attempt 9", "dure show"]),
        (&["stop", "nothing"], 5, "E0201", &["no run or job `nothing`"]),
        (&["show", "model/digts"], 5, "E0201", &["no model digts", "did you mean `digits`?"]),
        (&["show", "model/digits@7"], 5, "E0201", &["no model digits@7", "dure model show digits"]),
        (&["model", "alias", "digits@7", "production"], 5, "E0201", &["no model digits@7"]),
        (&["dataset", "delete", "digts"], 5, "E0201", &["no dataset digts", "did you mean `digits`?"]),
        (&["stop", "service/nothing"], 5, "E0201", &["no service nothing", "dure service list"]),
        (&["predict", "nothing", "--input", "data/none.csv"], 2, "E0107", &["data/none.csv cannot be read"]),
        (&["ps", "--project", "nothing"], 5, "E0201", &["no project `nothing`", "dure project list"]),
        (&["ps", "--profile", "nothing"], 2, "", &["no profile `nothing`", "default"]),
        (&["show", "cluster/x"], 2, "", &["neither a run's id nor KIND/NAME", "model/digits@1"]),
        (&["run", "--environment", "nothing", "--", "true"], 5, "E0201", &["no environment `nothing`"]),
        (&["model", "register", "smal.onnx"], 2, "E0107", &["did you mean `small.onnx`?"]),
        (&["dataset", "download", "digits", "--to", "no/such/x.zip"], 1, "", &["no/such"]),
    ];
    for (command, exit, code, words) in cases {
        let refused = dure.cli(command);
        assert_eq!(refused.code, *exit, "{command:?}: {refused}");
        assert_said(&refused, code, words);
    }
    assert_eq!(dure.json(&["ps", "--all"]), before);
    assert_eq!(dure.json(&["service", "list"])["items"], json!([]));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let dure = dure();
    dure.write_file("data/a.csv", "1\n");
    dure.write_file("small.onnx", MODEL);
    dure.write_file("text.onnx", "hello\n");
    dure.write_file("empty.onnx", "");
    dure.cli(&["dataset", "create", "one", "data"]).expect(0);
    dure.cli(&["dataset", "create", "two", "data"]).expect(0);
    dure.cli(&["model", "register", "small.onnx"]).expect(0);
    dure.cli(&["run", "--name", "over", "--", "true"]).expect(0);
    dure.write_file("big.yaml", "kind: job\nname: big\ncommand: echo\nresources: {cpu: 6400, memory: 900Ti}\n");
    dure.write_file("small.yaml", "kind: job\nname: small\ncommand: echo\n");
    let all = || {
        let lists = [&["ps", "--all"][..], &["dataset", "list"], &["model", "list"], &["project", "list"]];
        lists.map(|list| dure.json(list))
    };
    let before = all();
    let cases: &[(&[&str], i32, &str, &[&str])] = &[
        (
            &["apply", "-f", "big.yaml", "--yes"],
            2,
            "E0311",
            &["no node can ever run this", "6400 CPU", "ask for at most", "dure node list"],
        ),
        (&["run", "--cpu", "6400", "--", "true"], 2, "E0311", &["6400 CPU", "ask for at most"]),
        (&["apply", "-f", "small.yaml"], 2, "", &["no terminal to ask on", "--yes", "dure plan"]),
        (&["dataset", "rename", "one", "two"], 1, "E0204", &["two exists already"]),
        (&["project", "create", "default"], 1, "E0204", &["project default exists already"]),
        (
            &["model", "register", "text.onnx"],
            1,
            "E0207",
            &["text.onnx: not an ONNX model: this is a text file", "skl2onnx"],
        ),
        (&["model", "register", "empty.onnx"], 1, "E0207", &["empty.onnx: not an ONNX model", "export"]),
        (&["model", "register", "data"], 2, "E0107", &["data cannot be read: it is a folder"]),
        (&["model", "alias", "small@1", "latest"], 2, "E0110", &["`latest` cannot be an alias"]),
        (&["run", "--env", "NOVALUE", "--", "true"], 2, "", &["KEY=VALUE"]),
        (&["cost", "--since", "yesterday"], 2, "", &["30d, 12h"]),
    ];
    for (command, exit, code, words) in cases {
        let refused = dure.cli(command);
        assert_eq!(refused.code, *exit, "{command:?}: {refused}");
        assert_said(&refused, code, words);
    }
    // What clap reads itself.
    for (command, words) in [
        (&["frob"][..], "unrecognized subcommand"),
        (&["apply", "--yes"], "--file"),
        (&["run"], "COMMAND"),
        (&["run", "--memory", "3Q", "--", "true"], "512Mi"),
        (&["up", "--listen", "localhost"], "127.0.0.1:7770"),
        (&["dataset", "rename", "one", "Bad_Name"], "lower-case"),
    ] {
        let refused = dure.cli(command).expect(2);
        assert!(refused.stderr.contains(words), "{refused}");
    }
    let over = dure.cli(&["stop", "over"]).expect(0);
    assert!(over.stdout.contains("is over already: succeeded"), "{over}");
    for path in ["runs?limit=abc", "runs?cursor=zzz", "datasets?cursor=zzz", "runs/%00", "models/%2e%2e"] {
        let answer = dure.http("GET", &format!("/api/v1/projects/default/{path}"), Some(dure.token()), None);
        assert!((200..500).contains(&answer.status), "{path}: {answer:?}");
        assert!(answer.status == 200 || answer.json()["code"].is_string(), "{path}: {answer:?}");
    }
    let huge = json!({"documents": ["x".repeat(17 << 20)]});
    let refused = dure.http("POST", "/api/v1/projects/default/plan", Some(dure.token()), Some(&huge));
    assert_eq!((refused.status, refused.json()["code"].as_str()), (413, Some("E0111")), "{refused:?}");
    assert_eq!(all(), before);
    assert_nothing_runs(&dure);
}

/// Applies a job that fails, and what is said from `error:` on.
#[track_caller]
pub fn fails(dure: &Dure, name: &str, spec: &str) -> Output {
    let file = format!("{name}.yaml");
    dure.write_file(&file, format!("kind: job\nname: {name}\nresources: {{cpu: 500m, memory: 64Mi}}\n{spec}\n"));
    let failed = dure.cli(&["apply", "-f", &file, "--yes"]).expect(1);
    let run = dure.run_of(name);
    // The log is that of the build where the build is why.
    for word in ["log: dure logs ".to_owned(), format!("dure apply -f {file}")] {
        assert!(failed.stderr.contains(&word), "no `{word}` in\n{failed}");
    }
    assert_eq!(dure.json(&["show", &run])["run"]["state"], "failed");
    failed
}

#[test]
fn a_run_that_fails_says_why_first_and_leaves_nothing() {
    let dure = dure();
    dure.write_file("code/raises.py", "print('loading')\ndef load(row):\n    return row['label']\nload({})\n");
    dure.write_file("code/script", "#!/opt/nothing/python\n");
    fs::set_permissions(dure.work().join("code/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("mode");
    let hungry = "import time\nkept = [bytearray(b'x' * (8 << 20)) for _ in range(64)]\ntime.sleep(600)\n";
    dure.write_file("code/hungry.py", hungry);
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("gone", "command: nosuchprogram --x", "E0405", &["`nosuchprogram` cannot be started", "PATH"]),
        ("script", "code: code\ncommand: ./script", "E0405", &["names `/opt/nothing/python`, which is not there"]),
        ("raises", "code: code\ncommand: python3 raises.py", "E0402", &["exit 1", "raises.py:3: KeyError: 'label'"]),
        ("hungry", "code: code\ncommand: python3 hungry.py\ntimeout: 1m", "E0403", &["out of memory", "64Mi"]),
        ("segv", "command: sh -c 'kill -SEGV $$'", "E0402", &["signal 11"]),
        ("late", "command: sleep 600\ntimeout: 1s", "E0404", &["time limit"]),
        ("nothing", "command: echo done\noutputs: {model: {name: m, path: m.onnx}}", "E0406", &["nothing at m.onnx"]),
        (
            "leak",
            "command: ln -s /etc/passwd $DURE_OUTPUT/p\noutputs: {files: {name: f, path: p}}",
            "E0406",
            &["`p`", "symbolic link"],
        ),
        (
            "leaks",
            "command: mkdir $DURE_OUTPUT/d && ln -s /etc $DURE_OUTPUT/d/e\noutputs: {dataset: {name: f, path: d}}",
            "E0406",
            &["symbolic link"],
        ),
        (
            "text",
            "command: echo hello > $DURE_OUTPUT/m.onnx\noutputs: {model: {name: m, path: m.onnx}}",
            "E0406",
            &["not an ONNX model: this is a text file"],
        ),
    ];
    for (name, spec, code, words) in cases {
        assert_said(&fails(&dure, name, spec), code, words);
    }
    // The traceback is the first thing that is seen.
    let raised = dure.cli(&["apply", "-f", "raises.yaml", "--yes"]).expect(1);
    let second = raised.stderr.lines().nth(1).unwrap_or_default();
    assert_eq!(second.trim(), "Traceback: raises.py:3: KeyError: 'label'", "{raised}");
    assert!(raised.stdout.contains("Traceback (most recent call last):"), "{raised}");
    assert!(raised.stdout.contains("! job"), "it was failed and is tried again: {raised}");

    for list in ["model", "dataset"] {
        assert_eq!(dure.json(&[list, "list"])["items"], json!([]), "{list}");
    }
    assert_nothing_runs(&dure);
}

#[test]
fn an_interrupted_apply_detaches_and_the_run_goes_on() {
    let dure = dure();
    let gate = Gate::new(&dure.work().join("gate"));
    dure.write_file("long.yaml", format!("kind: job\nname: long\ncommand: echo one; {}; echo two\n", gate.wait()));
    let followed = dure.spawn(&["apply", "-f", "long.yaml", "--yes"]);
    assert!(followed.wait_stdout("│ one"));
    followed.signal(Signal::INT);
    let left = followed.wait().expect(130);
    let run = dure.run_of("long");
    assert!(left.stderr.contains(&format!("detached; it goes on. Back with: dure logs -f {}", &run[..6])), "{left}");
    gate.open();
    dure.wait_run_state(&run, RunState::Succeeded);
}

#[test]
fn an_input_that_does_not_fit_the_model_is_told_what_was_expected() {
    let Some(dure) = shared() else { return };
    dure.write_file("misfit.onnx", MODEL);
    dure.cli(&["model", "register", "misfit.onnx"]).expect(0);
    let service = "kind: service\nname: misfit\nmodel: misfit@1\nresources: {cpu: 100m, memory: 256Mi}\n";
    dure.write_file("misfit.yaml", service);
    dure.cli(&["apply", "-f", "misfit.yaml", "--yes"]).expect(0);
    let signature = dure.json(&["show", "model/misfit@1"])["signature"]["inputs"][0].clone();
    let (input, width) =
        (signature["name"].as_str().expect("a name"), signature["shape"][1].as_u64().expect("a width"));

    dure.write_file("narrow.csv", "a,b\n1,2\n");
    let heading: Vec<_> = (0..width).map(|column| format!("c{column}")).collect();
    let row = |first: &str| [vec![first.to_owned()], vec!["1".to_owned(); width as usize - 1]].concat().join(",");
    dure.write_file("words.csv", format!("{}\n{}\n", heading.join(","), row("many")));
    dure.write_file("ragged.csv", format!("{}\n1\n", heading.join(",")));
    dure.write_file("empty.csv", "");
    dure.write_file("narrow.json", "{\"rows\": [[1]]}");
    let ask = |file: &'static str| dure.cli(&["predict", "misfit", "--input", file]);
    for (file, code, words) in [
        ("narrow.csv", "E0604", &["2 columns", "misfit@1", input, "dure show model/misfit@1"][..]),
        ("narrow.json", "E0604", &["expected", "got [1,1]", "dure show service/misfit"]),
        ("words.csv", "", &["words.csv: row 1", "`many` in column `c0` is not a number"]),
        ("ragged.csv", "E0107", &["ragged.csv: line 2 has 1 values"]),
        ("empty.csv", "E0107", &["empty.csv has no rows"]),
    ] {
        let refused = ask(file).expect(2);
        assert_said(&refused, code, words);
    }
    let column = dure.cli(&["predict", "misfit", "--input", "words.csv", "--truth", "labl"]).expect(2);
    assert_said(&column, "", &["no column `labl`", "c0"]);
    let near = dure.cli(&["predict", "misfti", "--input", "narrow.csv"]).expect(5);
    assert_said(&near, "E0201", &["no service misfti", "did you mean `misfit`?"]);

    let post = |path: &str, body: &Value| {
        dure.http("POST", &format!("/s/default/misfit/{path}"), Some(dure.token()), Some(body))
    };
    let wrong = json!({"inputs": [{"name": input, "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]});
    for (path, body, status) in [
        ("predict", json!({"rows": [[1]]}), 400),
        ("predict", json!({"rowz": []}), 400),
        ("v2/models/misfit/infer", wrong, 400),
        ("v2/models/other/infer", json!({"inputs": []}), 404),
        ("nothing", json!({}), 404),
        ("predict", json!({"rows": ["x".repeat(65 << 20)]}), 413),
    ] {
        let answer = post(path, &body);
        assert_eq!(answer.status, status, "{path}: {}", &answer.text[..answer.text.len().min(300)]);
        assert!(answer.json()["code"].is_string(), "{path}");
    }
    dure.cli(&["service", "delete", "misfit"]).expect(0);
}
