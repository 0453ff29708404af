//! A control plane for one benchmark: a release build in a folder of its own, gone afterwards.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use tempfile::TempDir;

use crate::{Result, workspace::build_dure};

pub struct ControlPlane {
    folder: TempDir,
    /// A copy of the binary, so that every process of this control plane can be told by what it executes.
    program: PathBuf,
    up: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
    pub token: String,
}

impl ControlPlane {
    /// With everything it starts on one core, if one is given.
    pub fn start(core: Option<usize>) -> Result<Self> {
        let built = build_dure(true)?;
        let folder = tempfile::Builder::new().prefix("dure-bench-").tempdir()?;
        let program = folder.path().join("dure");
        fs::copy(&built, &program)?;

        let mut command = pinned(&program, core);
        let log = File::create(folder.path().join("up.log"))?;
        command.args(["up", "--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        settle(&mut command, folder.path());
        let mut up = command.spawn()?;
        let Some(output) = up.stdout.take() else { return Err("dure up has no output".into()) };
        let mut lines = BufReader::new(output).lines();
        let url = lines.by_ref().map_while(std::result::Result::ok).find_map(|line| {
            let rest = line.strip_prefix("Listening")?.trim_start().strip_prefix("http://")?;
            rest.split_whitespace().next().map(|address| address.trim_end_matches('/').to_owned())
        });
        // What it still has to say must not fill the pipe.
        thread::spawn(move || lines.for_each(drop));
        let mut made = Self { folder, program, up, address: String::new(), token: String::new() };
        let Some(address) = url else {
            let log = fs::read_to_string(made.folder.path().join("up.log")).unwrap_or_default();
            return Err(format!("dure up did not become ready: {log}").into());
        };
        made.address = address;
        // The first start has signed the CLI in.
        let profiles: toml::Table = fs::read_to_string(made.folder.path().join("config/profiles.toml"))?.parse()?;
        let token = profiles.values().find_map(|profile| profile.get("token")?.as_str());
        made.token = token.ok_or("the profile that dure up wrote has no token")?.to_owned();
        Ok(made)
    }

    /// Runs a command of the CLI and gives what it printed.
    pub fn dure(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null());
        settle(&mut command, self.folder.path());
        let output = command.output()?;
        if !output.status.success() {
            return Err(format!("dure {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The CPU time of the control plane, its keeper and its model servers so far, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let mut total = 0.0;
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            if fs::read_link(path.join("exe")).is_ok_and(|program| program == self.program) {
                total += cpu_seconds_of(&path)?;
            }
        }
        Ok(total)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Err(error) = self.dure(&["down"]) {
            eprintln!("warning: {error}");
            let _ = self.up.kill();
        }
        let _ = self.up.wait();
    }
}

/// The CPU time of one process and its threads, from its folder in /proc.
pub fn cpu_seconds_of(process: &Path) -> Result<f64> {
    let mut stat = String::new();
    File::open(process.join("stat"))?.read_to_string(&mut stat)?;
    // The name in parentheses may have spaces; user and system time are the 12th and 13th field after it.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let ticks: u64 =
        fields.get(11..13).ok_or("/proc/PID/stat is short")?.iter().map(|field| field.parse().unwrap_or(0)).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A command on one core.
pub fn pinned(program: &Path, core: Option<usize>) -> Command {
    match core {
        Some(core) => {
            let mut command = Command::new("taskset");
            command.arg("--cpu-list").arg(core.to_string()).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Its own state and profile; nobody's settings.
fn settle(command: &mut Command, folder: &Path) {
    for name in ["DURE_URL", "DURE_TOKEN", "DURE_PROJECT", "DURE_PROFILE"] {
        command.env_remove(name);
    }
    // Its output is read here.
    command.env("LC_ALL", "C.UTF-8");
    command.env("DURE_DATA_DIR", folder.join("data")).env("DURE_CONFIG_DIR", folder.join("config"));
}
