//! Third-party versions and features stand once, in the root manifest; and nothing is listed that is not used.

use std::{collections::BTreeSet, fs, path::Path};

use cargo_metadata::{Metadata, Package};
use toml::{Table, Value};

use crate::{
    Result,
    workspace::{root, shown},
};

pub fn check(metadata: &Metadata) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for package in metadata.workspace_packages() {
        let path = package.manifest_path.as_std_path();
        let manifest: Table = fs::read_to_string(path)?.parse()?;
        for (name, value) in dependencies(&manifest) {
            used.insert(name.to_owned());
            if !is_inherited(value) {
                faults.push(format!(
                    "{}: `{name}` needs `workspace = true` and no version or feature of its own",
                    shown(path)
                ));
            }
        }
        faults.extend(unused(package)?);
    }
    let workspace: Table = fs::read_to_string(root().join("Cargo.toml"))?.parse()?;
    let listed =
        workspace.get("workspace").and_then(|workspace| workspace.get("dependencies")).and_then(Value::as_table);
    for name in listed.into_iter().flat_map(Table::keys) {
        // Our own crates stand there too, whether or not another one needs them by now.
        if !used.contains(name) && !name.starts_with("dure") {
            faults.push(format!("Cargo.toml: no crate uses `{name}`"));
        }
    }
    Ok(faults)
}

fn dependencies(manifest: &Table) -> Vec<(&str, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    [manifest]
        .into_iter()
        .chain(targets.filter_map(Value::as_table))
        .flat_map(|table| ["dependencies", "dev-dependencies", "build-dependencies"].map(|kind| table.get(kind)))
        .flatten()
        .filter_map(Value::as_table)
        .flat_map(|table| table.iter().map(|(name, value)| (name.as_str(), value)))
        .collect()
}

fn is_inherited(value: &Value) -> bool {
    value.as_table().is_some_and(|table| {
        table.get("workspace") == Some(&Value::Boolean(true))
            && table.keys().all(|key| ["workspace", "optional"].contains(&key.as_str()))
    })
}

/// Dependencies that no source of the package names.
fn unused(package: &Package) -> Result<Vec<String>> {
    let folder = package.manifest_path.as_std_path().parent().unwrap_or(Path::new("."));
    let mut sources = String::new();
    let journeys = (package.name.as_str() == "dure").then(|| root().join("tests"));
    for file in
        [Some(folder.to_owned()), journeys].into_iter().flatten().map(|folder| crate::workspace::files(&shown(&folder)))
    {
        for file in file?.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
            sources.push_str(&fs::read_to_string(file)?);
        }
    }
    let words: BTreeSet<&str> = sources.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let listed = package.dependencies.iter().map(|dependency| dependency.rename.as_ref().unwrap_or(&dependency.name));
    Ok(listed
        .filter(|name| !words.contains(name.replace('-', "_").as_str()))
        .map(|name| format!("{}: nothing uses `{name}`", shown(package.manifest_path.as_std_path())))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_or_feature_of_ones_own_is_found_wherever_it_stands() {
        let manifest: Table = "
            [dependencies]
            a.workspace = true
            b = '1'
            c = { workspace = true, features = ['x'] }
            [dev-dependencies]
            d = { version = '1' }
            [target.'cfg(unix)'.dependencies]
            e = '1'
        "
        .parse()
        .unwrap();
        let wrong: Vec<&str> = dependencies(&manifest)
            .into_iter()
            .filter(|(_, value)| !is_inherited(value))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(wrong, ["b", "c", "d", "e"]);
    }
}
