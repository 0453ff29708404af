//! The steps of a build: an interpreter, a lock, the packages, and the file that says it is done.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::process::Command;

use crate::build::{BuildConfig, Built, Package, RESULT, python_of};
use crate::error::BuildError;
use crate::failure::{Scene, explain};
use crate::host::DEFAULT_INDEX;
use crate::input::{Checked, Source};
use crate::interpreter::{self, Interpreter, Wanted};
use crate::progress::{Listener, Progress};
use crate::tree;
use crate::uv::{self, Uv};

pub(crate) struct Build<'a> {
    config: &'a BuildConfig,
    index: String,
    work: PathBuf,
    venv: PathBuf,
    progress: &'a mut (dyn FnMut(Progress) + Send),
}

impl<'a> Build<'a> {
    pub fn new(config: &'a BuildConfig, progress: &'a mut (dyn FnMut(Progress) + Send)) -> Self {
        let index = config.index_url.clone().or_else(|| config.host.index_url.clone());
        Self {
            config,
            index: index.unwrap_or_else(|| DEFAULT_INDEX.to_owned()),
            work: config.into.join("work"),
            venv: config.into.join("venv"),
            progress,
        }
    }

    pub async fn make(mut self, checked: &Checked, started: Instant) -> Result<Built, BuildError> {
        self.clear()?;
        let (binary, version) = uv::locate(&self.config.host, &self.config.tools, &self.index, self.progress).await?;
        let clones = tree::can_clone(&self.config.cache, &self.config.into);
        let uv = Uv {
            binary,
            version,
            host: self.config.host.clone(),
            cache: self.config.cache.clone(),
            no_config: self.work.join("no-config"),
            link_mode: if clones { "clone" } else { "copy" },
        };
        let (interpreter, lock) = self.on_some_python(&uv, checked).await?;
        let packages = self.list(&uv, &interpreter).await?;
        let built = Built {
            python_version: interpreter.version.to_string(),
            python_path: python_of(&self.config.into),
            packages,
            lock,
            uv_version: uv.version.clone(),
            seconds: started.elapsed().as_secs_f64(),
        };
        self.finish(built, started).await
    }

    /// Makes the place empty, whatever was there.
    fn clear(&self) -> Result<(), BuildError> {
        let into = &self.config.into;
        tree::remove(into).map_err(|error| BuildError::io("clearing", into, error))?;
        let no_config = self.work.join("no-config");
        fs::create_dir_all(&no_config).map_err(|error| BuildError::io("making", &no_config, error))
    }

    /// Tries interpreters, the newest first, until the packages accept one: those of the machine,
    /// then those that uv can fetch.
    async fn on_some_python(&mut self, uv: &Uv, checked: &Checked) -> Result<(Interpreter, String), BuildError> {
        let fetched = self.config.tools.join("python");
        let found = interpreter::discover(&self.config.host, &fetched).await;
        let mut refusal: Option<BuildError> = None;
        let mut tried = BTreeSet::new();
        for interpreter in interpreter::choose(&found, &checked.wanted) {
            tried.insert(interpreter.minor());
            match self.attempt(uv, &checked.source, &interpreter).await {
                Ok(lock) => return Ok((interpreter, lock)),
                Err(error) => self.refused(&interpreter, error, &mut refusal)?,
            }
        }
        let mut not_fetched = None;
        let requests = match &refusal {
            // What a compiler or a missing library refused, another Python will not mend.
            Some(BuildError::SourceBuild { .. }) => Vec::new(),
            _ => checked.wanted.fetchable(&tried),
        };
        for request in requests {
            if let Err(reason) = self.fetch_python(uv, &request, &fetched).await {
                not_fetched = Some(reason);
                break;
            }
            let now = interpreter::discover(&self.config.host, &fetched).await;
            let fresh =
                interpreter::choose(&now, &checked.wanted).into_iter().find(|one| !tried.contains(&one.minor()));
            let Some(interpreter) = fresh else {
                break;
            };
            tried.insert(interpreter.minor());
            match self.attempt(uv, &checked.source, &interpreter).await {
                Ok(lock) => return Ok((interpreter, lock)),
                Err(error) => self.refused(&interpreter, error, &mut refusal)?,
            }
        }
        match refusal {
            Some(error) => Err(with_tried(error, &tried)),
            None => Err(no_interpreter(&checked.wanted, &found, not_fetched)),
        }
    }

    /// Goes on to the next interpreter where that can help, and keeps the first refusal.
    fn refused(
        &mut self,
        interpreter: &Interpreter,
        error: BuildError,
        first: &mut Option<BuildError>,
    ) -> Result<(), BuildError> {
        if !error.depends_on_interpreter() {
            return Err(error);
        }
        let reason = match &error {
            BuildError::Resolution { reason, .. } | BuildError::SourceBuild { reason, .. } => {
                reason.lines().next().unwrap_or_default().to_owned()
            }
            other => other.to_string(),
        };
        (self.progress)(Progress::PythonRefused { version: interpreter.version.to_string(), reason });
        first.get_or_insert(error);
        Ok(())
    }

    async fn fetch_python(&mut self, uv: &Uv, request: &str, to: &Path) -> Result<(), String> {
        (self.progress)(Progress::FetchingPython { request: request.to_owned() });
        let mut command = uv.command(&self.work, None);
        command
            .env("UV_NO_CONFIG", "1")
            .env("UV_PYTHON_DOWNLOADS", "manual")
            .env("UV_HTTP_RETRIES", "1")
            .args(["python", "install", "--no-bin", "--install-dir"])
            .arg(to)
            .arg("--")
            .arg(request);
        let outcome = uv.run(command, &mut |_| {}).await.map_err(|error| error.to_string())?;
        if outcome.success {
            return Ok(());
        }
        let scene = self.scene("fetching Python", request);
        Err(match explain(&outcome.stderr, &scene) {
            BuildError::Index { url, reason } => format!("{url}: {reason}"),
            other => other.to_string(),
        })
    }

    /// Locks and installs on one interpreter. Returns the lock.
    async fn attempt(&mut self, uv: &Uv, source: &Source, interpreter: &Interpreter) -> Result<String, BuildError> {
        self.clear()?;
        (self.progress)(Progress::Python {
            version: interpreter.version.to_string(),
            path: interpreter.path.display().to_string(),
        });
        let python = interpreter.version.to_string();
        match source {
            Source::Loose { options, lines, names_index } => {
                let mut text = String::new();
                for line in options.iter().chain(lines) {
                    text.push_str(line);
                    text.push('\n');
                }
                self.write("requirements.in", &text)?;
                let index = (!names_index).then(|| self.index.clone());
                let resolved = self.resolve(uv, "requirements.in", interpreter, index.as_deref()).await?;
                let mut lock: String = options.iter().map(|line| format!("{line}\n")).collect();
                lock.push_str(&resolved);
                self.create_venv(uv, interpreter).await?;
                self.sync(uv, &lock, index.as_deref(), true, &python).await?;
                Ok(lock)
            }
            Source::Locked { text, names_index } => {
                let index = (!names_index).then(|| self.index.clone());
                self.create_venv(uv, interpreter).await?;
                self.write("requirements.lock", text)?;
                let mut command = self.command(uv, index.as_deref(), true);
                // Resolving again finds what the file forgot; a package without a hash is refused.
                command
                    .args(["pip", "install", "--require-hashes", "--compile-bytecode"])
                    .args(["--requirement", "requirements.lock", "--python"])
                    .arg(python_of(&self.config.into));
                self.run(uv, command, "installing", &python).await?;
                Ok(text.clone())
            }
            Source::Pyproject { text } => {
                self.write("pyproject.toml", text)?;
                let index = self.index.clone();
                let lock = self.resolve(uv, "pyproject.toml", interpreter, Some(&index)).await?;
                self.create_venv(uv, interpreter).await?;
                self.sync(uv, &lock, Some(&index), false, &python).await?;
                Ok(lock)
            }
            Source::UvLock { pyproject, lock } => {
                self.write("pyproject.toml", pyproject)?;
                self.write("uv.lock", lock)?;
                self.create_venv(uv, interpreter).await?;
                let index = self.index.clone();
                let mut command = self.command(uv, Some(&index), false);
                command
                    .env("UV_PROJECT_ENVIRONMENT", &self.venv)
                    .args(["sync", "--frozen", "--no-install-project"])
                    .args(["--no-default-groups", "--compile-bytecode", "--python"])
                    .arg(python_of(&self.config.into));
                self.run(uv, command, "installing", &python).await?;
                Ok(lock.clone())
            }
        }
    }

    /// A pyproject's [tool.uv] is meant by whoever wrote it; all other configuration is not read.
    fn command(&self, uv: &Uv, index: Option<&str>, ours: bool) -> Command {
        let mut command = uv.command(&self.work, index);
        if ours {
            command.env("UV_NO_CONFIG", "1");
        }
        command
    }

    async fn resolve(
        &mut self,
        uv: &Uv,
        file: &str,
        interpreter: &Interpreter,
        index: Option<&str>,
    ) -> Result<String, BuildError> {
        let mut command = self.command(uv, index, file != "pyproject.toml");
        command
            .args(["pip", "compile", "--generate-hashes", "--no-header"])
            .args(["--no-annotate", file, "--python"])
            .arg(&interpreter.path);
        let version = interpreter.version.to_string();
        let stdout = self.run(uv, command, "resolving", &version).await?;
        String::from_utf8(stdout).map_err(|error| BuildError::Uv { step: "resolving", reason: error.to_string() })
    }

    async fn create_venv(&mut self, uv: &Uv, interpreter: &Interpreter) -> Result<(), BuildError> {
        let mut command = self.command(uv, None, true);
        command.args(["venv", "--no-project", "--python"]);
        command.arg(&interpreter.path).arg(&self.venv);
        let version = interpreter.version.to_string();
        let made = self.run(uv, command, "making the environment", &version).await;
        made.map(drop)
    }

    async fn sync(
        &mut self,
        uv: &Uv,
        lock: &str,
        index: Option<&str>,
        ours: bool,
        python: &str,
    ) -> Result<(), BuildError> {
        self.write("requirements.lock", lock)?;
        let mut command = self.command(uv, index, ours);
        command
            .args(["pip", "sync", "requirements.lock", "--require-hashes"])
            .args(["--allow-empty-requirements", "--compile-bytecode", "--python"])
            .arg(python_of(&self.config.into));
        self.run(uv, command, "installing", python).await.map(drop)
    }

    async fn list(&mut self, uv: &Uv, interpreter: &Interpreter) -> Result<Vec<Package>, BuildError> {
        let mut command = self.command(uv, None, true);
        command.args(["pip", "list", "--format", "json", "--python"]).arg(python_of(&self.config.into));
        let version = interpreter.version.to_string();
        let stdout = self.run(uv, command, "listing the packages", &version).await?;
        serde_json::from_slice(&stdout)
            .map_err(|error| BuildError::Uv { step: "listing the packages", reason: error.to_string() })
    }

    async fn run(
        &mut self,
        uv: &Uv,
        command: Command,
        step: &'static str,
        python: &str,
    ) -> Result<Vec<u8>, BuildError> {
        let mut listener = Listener::default();
        // Each command resolves in its own way; only the first time says something new.
        let resolving = step == "resolving";
        let progress = &mut *self.progress;
        let outcome = uv
            .run(command, &mut |line| match listener.hear(line) {
                Some(Progress::Resolved { .. }) if !resolving => {}
                Some(heard) => progress(heard),
                None => {}
            })
            .await?;
        if outcome.success {
            return Ok(outcome.stdout);
        }
        Err(explain(&outcome.stderr, &self.scene(step, python)))
    }

    fn scene<'s>(&'s self, step: &'static str, python: &'s str) -> Scene<'s> {
        Scene { step, python, index: &self.index, into: &self.config.into }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), BuildError> {
        let path = self.work.join(name);
        fs::write(&path, text).map_err(|error| BuildError::io("writing", &path, error))
    }

    /// Closes the tree and writes the file that makes it exist, once all else is on the disk.
    async fn finish(self, built: Built, started: Instant) -> Result<Built, BuildError> {
        let into = self.config.into.clone();
        let (work, venv) = (self.work, self.venv);
        let written = tokio::task::spawn_blocking(move || -> Result<Built, BuildError> {
            let failed = |doing| {
                let into = into.clone();
                move |error: std::io::Error| BuildError::io(doing, &into, error)
            };
            tree::remove(&work).map_err(failed("clearing"))?;
            tree::close(&venv).map_err(failed("closing"))?;
            let folder = File::open(&into).map_err(failed("opening"))?;
            // A machine that loses power must not find the file without the packages.
            rustix::fs::syncfs(&folder).map_err(|error| failed("syncing")(error.into()))?;
            let built = Built { seconds: started.elapsed().as_secs_f64(), ..built };
            let text = serde_json::to_vec_pretty(&built).map_err(|error| failed("writing")(error.into()))?;
            let partial = into.join(format!("{RESULT}.partial"));
            let mut file = File::create(&partial).map_err(failed("writing"))?;
            file.write_all(&text).map_err(failed("writing"))?;
            file.sync_all().map_err(failed("writing"))?;
            fs::rename(&partial, into.join(RESULT)).map_err(failed("writing"))?;
            folder.sync_all().map_err(failed("writing"))?;
            Ok(built)
        });
        let built = match written.await {
            Ok(built) => built?,
            Err(error) => {
                let error = std::io::Error::other(error);
                return Err(BuildError::io("finishing", &self.config.into, error));
            }
        };
        (self.progress)(Progress::Ready { seconds: built.seconds });
        Ok(built)
    }
}

/// Names all the versions that were tried in the error about the first.
fn with_tried(error: BuildError, tried: &BTreeSet<String>) -> BuildError {
    let all = |python: String| {
        let others: Vec<&str> =
            tried.iter().rev().filter(|minor| !python.starts_with(&format!("{minor}."))).map(String::as_str).collect();
        if others.is_empty() {
            return python;
        }
        format!("{python} (nor for {})", others.join(", "))
    };
    match error {
        BuildError::Resolution { python, reason } => BuildError::Resolution { python: all(python), reason },
        BuildError::SourceBuild { python, reason } => BuildError::SourceBuild { python: all(python), reason },
        other => other,
    }
}

fn no_interpreter(wanted: &Wanted, found: &[Interpreter], not_fetched: Option<String>) -> BuildError {
    let fetched = match not_fetched {
        Some(reason) => format!("It could not be fetched either ({reason}). "),
        None => String::new(),
    };
    BuildError::Interpreter {
        wanted: wanted.describe(),
        found: interpreter::describe_found(found),
        advice: format!(
            "{fetched}Install one (with the system's packages, pyenv or `uv python install`), or change `python`"
        ),
    }
}
