//! Where ONNX Runtime's shared library lies in a Python environment.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// `lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so*` below the environment; the newest Python's where there are several.
pub fn find_library(environment: &Path) -> Option<PathBuf> {
    let mut interpreters: Vec<(u32, PathBuf)> = fs::read_dir(environment.join("lib"))
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let minor =
                entry.file_name().to_str()?.strip_prefix("python3")?.trim_start_matches('.').parse().unwrap_or(0);
            Some((minor, entry.path()))
        })
        .collect();
    interpreters.sort();
    interpreters.into_iter().rev().find_map(|(_, interpreter)| {
        let capi = interpreter.join("site-packages/onnxruntime/capi");
        let mut libraries: Vec<PathBuf> = fs::read_dir(capi)
            .ok()?
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(is_library))
            .map(|entry| entry.path())
            .collect();
        libraries.sort();
        libraries.pop()
    })
}

/// `libonnxruntime.so` or `libonnxruntime.so.1.32.0`; not the providers' libraries beside it.
fn is_library(name: &str) -> bool {
    name.strip_prefix("libonnxruntime.so").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
