//! Spec files and what is said of them: each `spec/*.yaml` with the snapshot beside it.

use std::{fs, path::Path};

use dure_types::{
    Code, Cpu, Memory, Name, Span,
    spec::{
        JobSpec, OneOrMany, Output, Outputs, Resources, Retries, Spec,
        parse::parse,
        schema::{describe, schema},
    },
};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
};
use serde_json::Value;

fn said(text: &str) -> String {
    match parse(text, "train.yaml") {
        Ok(documents) => documents
            .iter()
            .map(|document| {
                let spec = match &document.spec {
                    Spec::Dataset(spec) => serde_json::to_string(spec),
                    Spec::Environment(spec) => serde_json::to_string(spec),
                    Spec::Job(spec) => serde_json::to_string(spec),
                    Spec::Service(spec) => serde_json::to_string(spec),
                };
                format!("{} line {}: {}", document.spec.kind().as_str(), document.line, spec.unwrap())
            })
            .collect::<Vec<_>>()
            .join("\n"),
        Err(faults) => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"),
    }
}

#[test]
fn every_file_is_answered_as_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(files.len() >= 7, "the files are where they should be");
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        insta::with_settings!({snapshot_path => "spec", prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!(path.file_stem().unwrap().to_str().unwrap(), said(&text));
        });
    }
}

#[test]
fn fields_are_described_as_a_table() {
    let paths = [
        "dataset",
        "environment",
        "job",
        "service",
        "job.resources",
        "job.environment",
        "job.outputs.model",
        "job.timeout",
    ];
    let described: Vec<_> = paths.into_iter().map(|path| describe(path).unwrap()).collect();
    insta::with_settings!({snapshot_path => "spec", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("describe", described.join("\n"));
    });
    for nothing in ["", "jobs", "job.memory", "job.resources.x", "job.name.x"] {
        assert_eq!(describe(nothing), None, "{nothing}");
    }
}

#[test]
fn fields_are_found_by_their_path() {
    let text = "kind: dataset\nname: a\nsource: ./data\n---\nkind: job\nname: b\ncommand: x\noutputs:\n  model: {name: m, path: 모델.onnx}\ncode: src\n";
    let documents = parse(text, "train.yaml").unwrap();
    assert_eq!(documents[0].position(&["source"]), Some((3, 9)));
    assert_eq!(documents[1].line, 5);
    assert_eq!(documents[1].position(&["outputs", "model", "path"]), Some((9, 26)));
    assert_eq!(documents[1].position(&["timeout"]), None);
    let fault = documents[1].error(Code::SpecFile, &["code"], "the folder `src` does not exist");
    assert_eq!(
        fault.to_string(),
        "error: train.yaml:10:7: the folder `src` does not exist\n   10 | code: src\n      |       ^^^\n  (E0107)"
    );
}

#[test]
fn files_that_say_nothing_or_too_much_are_answered() {
    for nothing in ["", "\u{feff}", "\n\n# only a comment\n---\n", "...\n"] {
        let faults = parse(nothing, "a.yaml").unwrap_err();
        assert_eq!((faults.len(), faults[0].message.as_str()), (1, "the file says nothing"), "{nothing:?}");
    }
    let large = format!("kind: job\nname: a\ncommand: {}", "x".repeat(1 << 20));
    assert!(parse(&large, "a.yaml").unwrap_err()[0].message.contains("larger than 1024 KiB"));
    let many = "---\nkind: dataset\n".repeat(1001);
    assert!(parse(&many, "a.yaml").unwrap_err()[0].message.contains("more than 1000 documents"));
    let deep = format!("kind: job\nparameters: {{a: {}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(parse(&deep, "a.yaml").unwrap_err()[0].code, Code::SpecSyntax);
    let wide = format!("kind: job\nname: a\ncommand: x\nparameters: {{a: [{}1]}}", "1, ".repeat(60_000));
    assert!(parse(&wide, "a.yaml").unwrap_err()[0].message.contains("more than 50000 values"));
}

#[test]
fn aliases_do_not_multiply() {
    let mut bomb = "kind: job\nname: a\ncommand: x\nparameters:\n  a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, below) in ["b", "c", "d", "e", "f", "g", "h"].iter().zip(["a", "b", "c", "d", "e", "f", "g"]) {
        bomb.push_str(&format!("  {name}: &{name} [{}]\n", vec![format!("*{below}"); 9].join(", ")));
    }
    let faults = parse(&bomb, "a.yaml").unwrap_err();
    assert!(faults[0].message.contains("larger than a spec may be"), "{}", faults[0]);
}

#[test]
fn a_long_line_is_shown_around_its_fault() {
    let text = format!(
        "{{\"kind\": \"job\", \"name\": \"a\", \"command\": \"{}\", \"tmeout\": \"1h\", \"env\": {{}}}}",
        "y".repeat(3000)
    );
    let fault = &parse(&text, "a.json").unwrap_err()[0];
    assert!(fault.source_line.chars().count() < 110, "{fault}");
    let marked: String = fault.source_line.chars().skip(fault.mark as usize).take(fault.length as usize).collect();
    assert_eq!(marked, "\"tmeout\"");
    assert_eq!(fault.suggestion.as_deref(), Some("timeout"));
}

#[test]
fn json_with_tabs_is_read_too() {
    let text = "{\n\t\"kind\": \"dataset\",\n\t\"name\": \"a\",\n\t\"source\": \"\\u002e\"\n}\n";
    assert!(matches!(&parse(text, "a.json").unwrap()[0].spec, Spec::Dataset(dataset) if dataset.source == "."));
}

#[test]
fn the_schema_names_every_kind_and_allows_nothing_else() {
    let schema = schema();
    let kinds = schema["oneOf"].as_array().unwrap();
    assert_eq!(kinds.len(), 4);
    for kind in kinds {
        assert_eq!(kind["additionalProperties"], false, "{}", kind["title"]);
        assert_eq!(kind["properties"]["kind"]["const"], kind["title"]);
        assert!(kind["required"].as_array().unwrap().contains(&"kind".into()));
    }
    let text = schema.to_string();
    for (at, _) in text.match_indices("\"$ref\":\"") {
        let reference = text[at + 8..].split('"').next().unwrap();
        assert!(schema.pointer(&reference[1..]).is_some(), "{reference}");
    }
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?".prop_map(|text| Name::new(text).unwrap())
}

fn job() -> impl Strategy<Value = JobSpec> {
    let resources = (1..64_000_u64, 1..1_000_000_u64, 0..8_u32).prop_map(|(milli, kibi, gpu)| Resources {
        cpu: Cpu::from_milli(milli),
        memory: Memory::from_bytes(kibi << 10),
        gpu,
    });
    let scalar = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        (-1e6..1e6_f64).prop_map(Value::from),
    ];
    let parameters =
        btree_map("[a-z_]{1,8}", prop_oneof![scalar.clone(), vec(scalar, 0..3).prop_map(Value::from)], 0..4);
    let outputs = btree_map(name(), "[a-z]{1,5}(/[a-z]{1,5})?", 0..3)
        .prop_map(|files| files.into_iter().map(|(name, path)| Output { name, path }).collect());
    (
        name(),
        "[^\\p{C}$ ][^\\p{C}$]{0,40}",
        resources,
        parameters,
        outputs,
        btree_map("[A-C][A-Z_]{0,5}", "[^\\p{C}]{0,20}", 0..3),
    )
        .prop_map(|(name, command, resources, parameters, files, env)| JobSpec {
            name,
            environment: None,
            code: Some(".".to_owned()),
            data: Default::default(),
            parameters,
            command,
            env,
            resources,
            outputs: Outputs { files: OneOrMany(files), ..Outputs::default() },
            timeout: Some(Span::from_secs(90)),
            retries: Retries { lost: 1, failed: 2 },
        })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(\\PC|[\\n\\t :{}\\[\\]\"'&*!|>%@`,#-]|kind|job|name|command){0,80}") {
        if let Err(faults) = parse(&text, "a.yaml") {
            for fault in faults {
                prop_assert!(!fault.to_string().is_empty());
                prop_assert!(fault.line >= 1 && fault.column >= 1);
            }
        }
    }

    #[test]
    fn a_document_cut_anywhere_does_not_make_it_panic(at in 0..2000_usize, with in "\\PC{0,3}") {
        let text = include_str!("spec/good.yaml");
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        for text in [format!("{}{with}", &text[..at]), format!("{}{with}{}", &text[..at], &text[at..])] {
            if let Err(faults) = parse(&text, "a.yaml") {
                prop_assert!(faults.iter().all(|fault| !fault.to_string().is_empty()));
            }
        }
    }

    #[test]
    fn a_job_written_as_yaml_or_json_is_read_as_it_was(job in job()) {
        let mut fields = serde_json::to_value(&job).unwrap();
        fields["kind"] = "job".into();
        for text in [serde_saphyr::to_string(&fields).unwrap(), serde_json::to_string_pretty(&fields).unwrap()] {
            let documents = parse(&text, "a.yaml").map_err(|faults| TestCaseError::fail(format!("{}\n{text}", faults[0])))?;
            prop_assert_eq!(&documents[0].spec, &Spec::Job(job.clone()), "{}", text);
        }
    }
}
