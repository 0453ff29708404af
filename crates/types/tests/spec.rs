//! Spec files and what is said of them: each `spec/*.yaml` with the snapshot beside it.

use std::{fs, path::Path};

use dure_types::spec::{Spec, parse::parse};

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
