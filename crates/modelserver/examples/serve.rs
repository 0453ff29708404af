//! Serves one model: `serve MODEL.onnx LIBRARY_OR_ENVIRONMENT [tcp:127.0.0.1:8080]`. For measuring by hand.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use dure_modelserver::{Config, DEFAULT_MAX_BODY, Listen, find_library, serve_blocking};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: serve MODEL.onnx LIBRARY_OR_ENVIRONMENT [tcp:127.0.0.1:8080]";
    let model = PathBuf::from(arguments.next().ok_or(usage)?);
    let library = arguments.next().ok_or(usage)?;
    let listen: Listen = arguments.next().as_deref().unwrap_or("tcp:127.0.0.1:8080").parse()?;
    let library = if Path::new(&library).is_dir() {
        find_library(Path::new(&library)).ok_or("no onnxruntime in this environment")?
    } else {
        library.into()
    };
    let name = model.file_stem().map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let config =
        Config { model, name, version: "1".to_owned(), library, threads: 1, listen, max_body: DEFAULT_MAX_BODY };
    serve_blocking(config, async {
        let _interrupted = tokio::signal::ctrl_c().await;
    })?;
    Ok(())
}
