//! `dure doctor`: what this machine has and lacks, each with the way to mend it.
//!
//! It changes nothing, and speaks to nobody but the control plane that the profile names.

use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use dure_client::ClientError;
use dure_image::{DEFAULT_INDEX, Host};
use rustix::fs::{Access, access, statvfs};
use serde::Serialize;

use super::up::{PORT, data_dir};
use crate::{
    args,
    context::Context,
    exit::{CliError, Exit},
    hint, messages,
    output::{self, Cell, Table, format, style},
};

/// Less free space than this is not enough for anything.
const FULL: u64 = 512 << 20;
/// Less than this is not enough for an environment with a large framework.
const NEARLY_FULL: u64 = 5 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Clone, Serialize)]
struct Check {
    name: String,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Check {
    fn ok(name: String, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), fix: None }
    }

    fn warn(name: String, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Warn, found: found.into(), fix: Some(fix.into()) }
    }

    fn fail(name: String, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Fail, found: found.into(), fix: Some(fix.into()) }
    }
}

pub async fn run(context: &Context, arguments: args::Doctor) -> Result<(), CliError> {
    let data = data_dir(arguments.data_dir)?;
    let host = Host::of_user(std::env::vars());
    let (control, reached) = control_plane(context).await;
    let checks = vec![
        kernel(&rustix::system::uname().release().to_string_lossy()),
        limits(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup").unwrap_or_default()),
        writable(&data),
        disk(&data),
        python(&host).await,
        uv(&host).await,
        Check::ok(messages::d_index(), without_credentials(host.index_url.as_deref().unwrap_or(DEFAULT_INDEX))),
        port(reached),
        control,
    ];
    let failed = checks.iter().filter(|check| check.state == State::Fail).count();
    context.show(&checks, |checks| render(checks, output::width()))?;
    if failed > 0 {
        anstream::eprintln!("{}", messages::doctor_failed(failed));
        return Err(CliError::Silent(Exit::Failed));
    }
    hint::print(context, [if reached.is_some() { hint::ps() } else { hint::up() }])?;
    Ok(())
}

fn render(checks: &[Check], width: Option<usize>) -> String {
    let mut table = Table::bare(3);
    for check in checks {
        let state = match check.state {
            State::Ok => Cell::styled(messages::ok(), style::GOOD),
            State::Warn => Cell::styled(messages::warn(), style::WARN),
            State::Fail => Cell::styled(messages::fail(), style::BAD),
        };
        table.row([state, Cell::from(&check.name), Cell::from(&check.found)]);
        if let Some(fix) = &check.fix {
            table.row([Cell::default(), Cell::default(), Cell::styled(fix, style::DIM)]);
        }
    }
    table.render(width)
}

/// Process handles that can be waited for came with 5.3 and 5.4.
fn kernel(release: &str) -> Check {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = format!("Linux {release}");
    if version >= (5, 4) {
        Check::ok(messages::d_kernel(), found)
    } else {
        Check::fail(messages::d_kernel(), found, messages::d_kernel_fix())
    }
}

/// What the kernel offers to hold limits with: the same order in which the engine tries.
fn limits(root: &Path, own: &str) -> Check {
    let can_write = |folder: &Path| access(folder, Access::WRITE_OK).is_ok();
    let v2 = own.lines().find_map(|line| line.strip_prefix("0::")).map(|path| root.join(path.trim_start_matches('/')));
    if let Some(folder) = v2.filter(|folder| folder.join("cgroup.controllers").exists()) {
        let controllers = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
        if controllers.split_whitespace().any(|name| name == "memory") && can_write(&folder) {
            return Check::ok(messages::d_limits(), "cgroup v2");
        }
    }
    if can_write(&root.join("memory")) && root.join("memory/memory.limit_in_bytes").exists() {
        return Check::ok(messages::d_limits(), "cgroup v1");
    }
    Check::warn(messages::d_limits(), "watched memory", messages::d_limits_fix())
}

/// The folder itself, or the nearest above it that there is.
fn nearest(folder: &Path) -> PathBuf {
    folder.ancestors().find(|folder| folder.exists()).map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

fn writable(data: &Path) -> Check {
    let found = data.display().to_string();
    match access(nearest(data), Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Check::ok(messages::d_data(), found),
        Err(error) => Check::fail(messages::d_data(), format!("{found}: {error}"), messages::d_data_fix()),
    }
}

fn disk(data: &Path) -> Check {
    let free = match statvfs(nearest(data)) {
        Ok(facts) => facts.f_bavail.saturating_mul(facts.f_frsize),
        Err(error) => return Check::fail(messages::d_disk(), error.to_string(), messages::d_data_fix()),
    };
    let found = messages::d_disk_free(format::bytes(free));
    match free {
        ..FULL => Check::fail(messages::d_disk(), found, messages::d_disk_fix()),
        FULL..NEARLY_FULL => Check::warn(messages::d_disk(), found, messages::d_disk_fix()),
        _ => Check::ok(messages::d_disk(), found),
    }
}

async fn python(host: &Host) -> Check {
    let mut found: Vec<String> = Vec::new();
    for program in programs(host, is_python) {
        // A shim may lead to no interpreter at all; what answers is one.
        let script = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
        if let Some(version) = answer(&program, ["-c".as_ref(), script.as_ref()]).await {
            let shown = format!("{version} ({})", program.display());
            let same = found.iter().any(|there| there.split(' ').next() == Some(version.as_str()));
            if !same {
                found.push(shown);
            }
        }
    }
    if found.is_empty() {
        Check::warn(messages::d_python(), messages::d_python_none(), messages::d_python_fix())
    } else {
        Check::ok(messages::d_python(), found.join(", "))
    }
}

fn is_python(name: &str) -> bool {
    name == "python3"
        || name
            .strip_prefix("python3.")
            .is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit()))
}

async fn uv(host: &Host) -> Check {
    for program in programs(host, |name| name == "uv") {
        if let Some(version) = answer(&program, ["--version".as_ref()]).await {
            return Check::ok(messages::d_uv(), format!("{version} ({})", program.display()));
        }
    }
    Check::ok(messages::d_uv(), messages::d_uv_none())
}

fn programs(host: &Host, is_it: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in host.search_path() {
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut here: Vec<PathBuf> =
            names.filter(|entry| entry.file_name().to_str().is_some_and(&is_it)).map(|entry| entry.path()).collect();
        here.sort();
        found.extend(here.into_iter().filter(|path| access(path, Access::EXEC_OK).is_ok()));
    }
    found
}

/// The first line that a program prints, if it ends well and soon.
async fn answer<const N: usize>(program: &Path, arguments: [&OsStr; N]) -> Option<String> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(5), command.output()).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| output.status.success() && !line.is_empty())
}

fn without_credentials(url: &str) -> String {
    match url.split_once("://").map(|(scheme, rest)| (scheme, rest, rest.find('/').unwrap_or(rest.len()))) {
        Some((scheme, rest, end)) => match rest[..end].rfind('@') {
            Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

/// `reached`: the port of the control plane that answers on this machine, if one does.
fn port(reached: Option<u16>) -> Check {
    if reached == Some(PORT) {
        return Check::ok(messages::d_port(), messages::d_port_ours(PORT));
    }
    match TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)) {
        Ok(_) => Check::ok(messages::d_port(), messages::d_port_free(PORT)),
        Err(_) => Check::warn(messages::d_port(), messages::d_port_taken(PORT), messages::d_port_fix()),
    }
}

/// The control plane of the profile, and its port if it answered from this machine.
async fn control_plane(context: &Context) -> (Check, Option<u16>) {
    let client = match context.client() {
        Ok(client) => client,
        Err(error) => {
            let head = if let CliError::Said(said) = &error { said.head.clone() } else { messages::no_profile() };
            return (Check::warn(messages::d_control(), head, hint::up()), None);
        }
    };
    match client.get_identity().await {
        Ok(identity) => {
            let local = ["127.0.0.1:", "localhost:", "[::1]:"].iter().find_map(|host| client.url().split_once(host));
            let port = local.and_then(|(_, port)| port.parse().ok());
            (Check::ok(messages::d_control(), messages::d_control_as(client.url(), identity.user)), port)
        }
        Err(ClientError::Unreachable { why, next, url }) => {
            (Check::warn(messages::d_control(), format!("{url}: {why}"), next), None)
        }
        Err(error) => {
            let fix = error.next().map_or_else(messages::no_token_next, str::to_owned);
            (Check::fail(messages::d_control(), error.to_string(), fix), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_told() {
        assert_eq!(kernel("6.1.0-18-amd64").state, State::Ok);
        assert_eq!(kernel("5.4.0").state, State::Ok);
        assert_eq!(kernel("4.19.0-26").state, State::Fail);
        assert_eq!(kernel("strange").state, State::Fail);
    }

    #[test]
    fn limits_are_looked_for_in_the_order_of_the_engine() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(limits(root.path(), "0::/\n").found, "watched memory");
        fs::create_dir(root.path().join("memory")).unwrap();
        fs::write(root.path().join("memory/memory.limit_in_bytes"), "1").unwrap();
        assert_eq!(limits(root.path(), "4:memory:/x\n").found, "cgroup v1");
        fs::create_dir(root.path().join("user")).unwrap();
        fs::write(root.path().join("user/cgroup.controllers"), "cpu memory pids").unwrap();
        assert_eq!(limits(root.path(), "0::/user\n").found, "cgroup v2");
    }

    #[test]
    fn credentials_of_an_index_are_not_shown() {
        assert_eq!(without_credentials("https://me:secret@index.example/simple"), "https://index.example/simple");
        assert_eq!(without_credentials("https://index.example/a@b"), "https://index.example/a@b");
    }

    #[test]
    fn interpreters_are_known_by_their_names() {
        assert!(is_python("python3") && is_python("python3.12"));
        assert!(
            !is_python("python")
                && !is_python("python3-config")
                && !is_python("python3.12-config")
                && !is_python("python3.")
        );
    }

    #[test]
    fn the_nearest_folder_that_exists_counts() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&root.path().join("a/b/c")), root.path());
    }
}
