//! Where things lie: the root, cargo's output and the files of this repository.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use walkdir::WalkDir;

use crate::Result;

/// Folders that are not the repository's text.
const NOT_OURS: [&str; 7] = [".demo", ".git", ".ruff_cache", ".venv", "__pycache__", "node_modules", "target"];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Every file of the repository, or of a folder in it, sorted.
pub fn files(below: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = WalkDir::new(root().join(below)).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(|entry| !entry.file_name().to_str().is_some_and(|name| NOT_OURS.contains(&name)))
    {
        let entry = entry?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// Relative to the root, for messages.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Builds the product's binary and says where it is; or takes the one that `DURE_BINARY` names, to measure that.
pub fn build_dure(release: bool) -> Result<PathBuf> {
    if let Some(binary) = env::var_os("DURE_BINARY").filter(|_| release) {
        return Ok(PathBuf::from(binary));
    }
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--bin", "dure"]).current_dir(root());
    if release {
        build.arg("--release");
    }
    if !build.status()?.success() {
        return Err("the binary `dure` does not build".into());
    }
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().current_dir(root()).exec()?;
    let profile = if release { "release" } else { "debug" };
    Ok(metadata.target_directory.into_std_path_buf().join(profile).join("dure"))
}
