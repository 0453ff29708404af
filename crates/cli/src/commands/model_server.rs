//! `dure model-server`: the program of a replica. Its model lies in `$DURE_MODELS/NAME`, its address is
//! `$DURE_LISTEN`, and ONNX Runtime comes from an environment.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use dure_modelserver::{Config, DEFAULT_MAX_BODY, find_library, serve_blocking};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(name = "dure model-server")]
struct Arguments {
    /// The model's name, under which it lies in $DURE_MODELS
    #[arg(long)]
    model: String,
    /// Its version, for those who ask
    #[arg(long)]
    version: String,
    /// The environment that has ONNX Runtime
    #[arg(long)]
    environment: PathBuf,
    /// The largest request body, in bytes
    #[arg(long, default_value_t = DEFAULT_MAX_BODY)]
    max_body: usize,
    /// Threads inside one operator
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(std::iter::once(OsString::from("model-server")).chain(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: Arguments) -> Result<(), String> {
    let folder = PathBuf::from(std::env::var_os("DURE_MODELS").ok_or("DURE_MODELS is not set")?).join(&arguments.model);
    let listen = std::env::var("DURE_LISTEN").map_err(|_| "DURE_LISTEN is not set")?.parse()?;
    // The environment's folder has the virtual environment in it.
    let library = [arguments.environment.join("venv"), arguments.environment.clone()]
        .iter()
        .find_map(|folder| find_library(folder))
        .ok_or_else(|| format!("{} has no ONNX Runtime", arguments.environment.display()))?;
    let config = Config {
        model: model_file(&folder)?,
        name: arguments.model,
        version: arguments.version,
        library,
        threads: arguments.threads,
        listen,
        max_body: arguments.max_body,
    };
    serve_blocking(config, terminated()).map_err(|error| error.to_string())
}

/// The one file of a model version; where others lie beside it, the one that ends in `.onnx`.
fn model_file(folder: &Path) -> Result<PathBuf, String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        files.push(entry.map_err(unreadable)?.path());
    }
    if files.len() > 1 {
        files.retain(|path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")));
    }
    match files.as_slice() {
        [file] => Ok(file.clone()),
        files => Err(format!("{} has {} .onnx files, not one", folder.display(), files.len())),
    }
}

/// SIGTERM or SIGINT; where neither can be waited for, the server ends only by being killed.
async fn terminated() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_the_one_onnx_file_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(model_file(folder.path()).is_err());
        fs::write(folder.path().join("m.onnx"), "x").unwrap();
        fs::write(folder.path().join("README"), "x").unwrap();
        assert_eq!(model_file(folder.path()).unwrap(), folder.path().join("m.onnx"));
        fs::write(folder.path().join("n.onnx"), "x").unwrap();
        assert!(model_file(folder.path()).is_err());
    }
}
