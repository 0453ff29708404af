//! FastAPI with ONNX Runtime, in an environment of its own beside the other developers' tools.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::control_plane::{cpu_seconds_of, pinned};
use crate::{Result, workspace::root};

pub struct FastApi {
    process: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
}

impl FastApi {
    pub fn start(python: &Path, model: &Path, core: usize) -> Result<Self> {
        let mut command = pinned(python, Some(core));
        command.arg(root().join("bench/fastapi/app.py")).arg(model).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let mut port = String::new();
        if let Some(output) = process.stdout.as_mut() {
            BufReader::new(output).read_line(&mut port)?;
        }
        let made = Self { process, address: format!("127.0.0.1:{}", port.trim()) };
        if port.is_empty() { Err("the FastAPI peer did not start".into()) } else { Ok(made) }
    }

    pub fn cpu_seconds(&self) -> Result<f64> {
        // taskset has become the server: it is one process.
        cpu_seconds_of(&PathBuf::from("/proc").join(self.process.id().to_string()))
    }
}

impl Drop for FastApi {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The interpreter of the peer's environment, made on first use and whenever its packages change.
pub fn python() -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let tools = cache.ok_or("HOME is not set")?.join("dure/tools");
    let pinned = fs::read_to_string(root().join("scripts/tools"))?;
    let version =
        pinned.lines().find_map(|line| line.strip_prefix("uv_version=")).ok_or("scripts/tools has no uv_version")?;
    let uv = tools.join(format!("uv-{version}"));
    succeed(Command::new("python3").arg(root().join("scripts/fetch-wheel.py")).args(["uv", version]).arg(&uv))?;

    let requirements = root().join("bench/fastapi/requirements.txt");
    let environment = tools.join("bench-fastapi");
    let (python, installed) = (environment.join("bin/python"), environment.join("requirements.txt"));
    let wanted = fs::read(&requirements)?;
    if fs::read(&installed).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    println!("making the peer's environment: {}", environment.display());
    let uv = || {
        let mut uv = Command::new(uv.join("bin/uv"));
        // With the machine's certificates, wherever its index is.
        uv.env("UV_SYSTEM_CERTS", "1");
        uv
    };
    succeed(uv().args(["venv", "--quiet", "--clear", "--no-managed-python"]).arg(&environment))?;
    succeed(uv().args(["pip", "install", "--quiet", "--python"]).arg(&python).arg("--requirement").arg(&requirements))?;
    fs::write(installed, wanted)?;
    Ok(python)
}

/// Trains the model on the example's data.
pub fn train(python: &Path, model: &Path) -> Result<()> {
    let root = root();
    succeed(
        Command::new(python)
            .arg(root.join("bench/fastapi/model.py"))
            .arg(root.join("examples/digits/data/train.csv"))
            .arg(model),
    )
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", command.get_program().display()).into()) }
}
