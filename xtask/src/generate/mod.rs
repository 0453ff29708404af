//! The reference that is made from the code and committed: remade by `cargo xtask gen`, compared by `--check`.

mod command_line;
mod errors;
mod vocabulary;

use std::fs;

use crate::{
    Result,
    workspace::{build_dure, root},
};

const FOLDER: &str = "docs/reference";

pub fn run(check: bool) -> Result<()> {
    let openapi = serde_json::to_value(dure_server::openapi())?;
    let schema = serde_json::to_value(dure_types::spec::schema::schema())?;
    let dure = build_dure(false)?;
    let made = [
        ("openapi.json", pretty(&openapi)?),
        ("spec.schema.json", pretty(&schema)?),
        ("errors.md", errors::page()),
        ("cli.md", command_line::page(&dure)?),
    ];

    let mut faults = Vec::new();
    for (name, text) in made {
        let path = root().join(FOLDER).join(name);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        if check {
            faults.push(format!("{FOLDER}/{name} is stale: cargo xtask gen"));
        } else {
            fs::write(&path, text)?;
            println!("{FOLDER}/{name}");
        }
    }
    let words = fs::read_to_string(root().join(FOLDER).join("vocabulary.md"))?;
    faults.extend(vocabulary::differences(&words, &openapi));
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

fn pretty(value: &serde_json::Value) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}
