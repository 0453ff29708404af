//! uv as a program: found or fetched, and run with an environment made from nothing.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use pep440_rs::Version;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::error::BuildError;
use crate::fetch;
use crate::host::Host;
use crate::progress::Progress;

/// The oldest that knows UV_SYSTEM_CERTS.
const OLDEST: [u64; 2] = [0, 11];
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// A package's own processes may keep uv's output open after uv has ended.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
const LONGEST_OUTPUT: usize = 4 << 20;
const LARGEST_ANSWER: u64 = 64 << 20;

pub(crate) struct Uv {
    pub binary: PathBuf,
    pub version: String,
    pub host: Host,
    pub cache: PathBuf,
    /// A folder of ours without any configuration of uv in it.
    pub no_config: PathBuf,
    pub link_mode: &'static str,
}

pub(crate) struct Outcome {
    pub success: bool,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// Finds a uv that is new enough, else fetches the one we know.
pub(crate) async fn locate(
    host: &Host,
    tools: &Path,
    index: &str,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(PathBuf, String), BuildError> {
    let mut folders = host.search_path();
    if let Some(home) = &host.home {
        folders.push(home.join(".local/bin"));
        folders.push(home.join(".cargo/bin"));
    }
    let mut candidates: Vec<PathBuf> = folders.iter().map(|folder| folder.join("uv")).collect();
    candidates.push(fetch::place(tools));
    for candidate in candidates {
        if candidate.is_file()
            && let Some(version) = version_of(&candidate, host).await
        {
            return Ok((candidate, version));
        }
    }
    let (binary, bytes) = fetch::fetch(index, tools).await?;
    match version_of(&binary, host).await {
        Some(version) => {
            if let Some(bytes) = bytes {
                progress(Progress::FetchedUv { version: version.clone(), bytes });
            }
            Ok((binary, version))
        }
        None => Err(BuildError::NoUv { reason: format!("{} does not run on this machine", binary.display()) }),
    }
}

async fn version_of(binary: &Path, host: &Host) -> Option<String> {
    let mut command = Command::new(binary);
    host.clean(&mut command);
    command.arg("--version").current_dir("/").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(VERSION_LIMIT, command.output()).await;
    let output = output.ok()?.ok()?;
    usable_version(&String::from_utf8_lossy(&output.stdout))
}

/// `uv 0.13.9 (x86_64-unknown-linux-gnu)`
fn usable_version(said: &str) -> Option<String> {
    let text = said.strip_prefix("uv ")?.split_whitespace().next()?;
    let version = Version::from_str(text).ok()?;
    (version >= Version::new(OLDEST)).then(|| text.to_owned())
}

impl Uv {
    /// A command in `folder` that knows our cache and nothing of the user's settings for uv.
    /// `index` is left out when what is installed names its own.
    pub fn command(&self, folder: &Path, index: Option<&str>) -> Command {
        let mut command = Command::new(&self.binary);
        self.host.clean(&mut command);
        command
            .env("UV_CACHE_DIR", &self.cache)
            .env("XDG_CONFIG_HOME", &self.no_config)
            .env("UV_LINK_MODE", self.link_mode)
            .env("UV_NO_PROGRESS", "1")
            .env("NO_COLOR", "1")
            .env("UV_PYTHON_DOWNLOADS", "never")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // Without this uv knows only the certificates it brings, not those of a company's proxy.
        if !self.host.variables.contains_key("SSL_CERT_FILE") {
            command.env("UV_SYSTEM_CERTS", "1");
        }
        if let Some(index) = index {
            command.env("UV_DEFAULT_INDEX", index);
        }
        command
    }

    /// Runs to the end and hands on each line of its standard error as it comes.
    pub async fn run(
        &self,
        mut command: Command,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Outcome, BuildError> {
        let failed = |error| BuildError::io("running", &self.binary, error);
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take();
        let answer = tokio::spawn(async move {
            let mut content = Vec::new();
            if let Some(stdout) = stdout {
                let mut limited = stdout.take(LARGEST_ANSWER);
                limited.read_to_end(&mut content).await?;
            }
            Ok::<_, std::io::Error>(content)
        });
        let mut said = String::new();
        let mut hear = |line: &[u8]| {
            let line = String::from_utf8_lossy(line);
            let line = line.trim_end();
            on_line(line);
            if said.len() + line.len() < LONGEST_OUTPUT {
                said.push_str(line);
                said.push('\n');
            }
        };
        let mut lines = child.stderr.take().map(|stderr| BufReader::new(stderr).split(b'\n'));
        let mut status = None;
        if let Some(lines) = &mut lines {
            loop {
                tokio::select! {
                    biased;
                    line = lines.next_segment() => match line.map_err(failed)? {
                        Some(line) => hear(&line),
                        None => break,
                    },
                    ended = child.wait() => {
                        status = Some(ended.map_err(failed)?);
                        break;
                    }
                }
            }
            if status.is_some() {
                let rest = async {
                    while let Ok(Some(line)) = lines.next_segment().await {
                        hear(&line);
                    }
                };
                let _ = tokio::time::timeout(DRAIN_LIMIT, rest).await;
            }
        }
        let status = match status {
            Some(status) => status,
            None => child.wait().await.map_err(failed)?,
        };
        let stdout = match tokio::time::timeout(DRAIN_LIMIT * 10, answer).await {
            Ok(Ok(content)) => content.map_err(failed)?,
            _ => return Err(failed(std::io::Error::other("its output did not end"))),
        };
        Ok(Outcome { success: status.success(), stdout, stderr: said })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uv_that_is_new_enough_is_used() {
        assert_eq!(usable_version("uv 0.13.9 (x86_64-unknown-linux-gnu)\n").as_deref(), Some("0.13.9"));
        assert_eq!(usable_version("uv 0.11.0").as_deref(), Some("0.11.0"));
        for said in ["uv 0.10.9", "uv", "", "pip 24", "uv new"] {
            assert_eq!(usable_version(said), None, "{said}");
        }
    }
}
