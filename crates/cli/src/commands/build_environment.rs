//! `dure build-environment`: the program of a build run. What to build is in the file `$DURE_PARAMS`; each
//! line that it prints is a step, and the last one of a failure says why.

use std::{ffi::OsString, fs, path::PathBuf, process::ExitCode};

use dure_image::BuildRequest;

pub fn run(arguments: Vec<OsString>) -> ExitCode {
    match build(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn build(arguments: &[OsString]) -> Result<(), String> {
    if !arguments.is_empty() {
        return Err("build-environment takes no arguments; what to build is in the file $DURE_PARAMS".to_owned());
    }
    let file = PathBuf::from(std::env::var_os("DURE_PARAMS").ok_or("DURE_PARAMS is not set")?);
    let text = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let request: BuildRequest =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let mut say = |progress: dure_image::Progress| println!("{progress}");
    runtime
        .block_on(dure_image::build(&request.input, &request.config, &mut say))
        .map(drop)
        .map_err(|error| error.to_string())
}
