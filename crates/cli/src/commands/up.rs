//! `dure up`: the control plane in the foreground, until it is told to end.

use std::{
    io::IsTerminal as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use dure_client::Client;
use dure_image::Host;
use dure_server::{App, Banner, Config, Tls};
use dure_types::{Cpu, Money, Name};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args,
    context::Context,
    exit::CliError,
    hint, messages,
    output::{self, format},
    profile::{self, Profile, Profiles},
};

/// The usual port.
pub const PORT: u16 = 7770;

pub fn run(context: &Context, arguments: args::Up) -> Result<(), CliError> {
    let config = config(arguments)?;
    start_log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(error.to_string()))?;
    runtime.block_on(serve(context, config))
}

async fn serve(context: &Context, config: Config) -> Result<(), CliError> {
    // Before anything is started, so that a signal that comes early is not lost.
    let listen = |kind| signal(kind).map_err(|error| CliError::failed(error.to_string()));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    // A first start tells the owner's token once, so there must be a place for it.
    let path = profile::path()?;
    let profiles = profile::read(&path)?;
    // For the profile: whoever reads that stands in another folder.
    let certificate = config.tls.as_ref().and_then(|tls| std::path::absolute(&tls.certificate).ok());
    let app = App::start(config).await.map_err(|error| CliError::from(error.problem()))?;
    let name = sign_in(context, &app, (&path, &profiles), certificate).await?;
    output::text(&render(app.banner(), &name))?;
    let example = Path::new("examples/digits/dure.yaml");
    let next = if example.exists() { hint::apply(example.display()) } else { hint::doctor() };
    hint::print(context, [next])?;
    let signalled = AtomicBool::new(false);
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        signalled.store(true, Ordering::Relaxed);
    };
    app.run(stop).await;
    // After `dure down` nothing goes on, and that command has said what ended.
    if signalled.load(Ordering::Relaxed) {
        anstream::eprintln!("{}", messages::ends_units_go_on());
    }
    Ok(())
}

fn config(arguments: args::Up) -> Result<Config, CliError> {
    let listen = arguments.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
    let tls = match (arguments.tls_cert, arguments.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls { certificate, key }),
        _ => None,
    };
    if !listen.ip().is_loopback() && tls.is_none() && !arguments.insecure {
        return Err(CliError::usage_next(messages::needs_tls(listen), messages::needs_tls_next()));
    }
    let mut config = local(data_dir(arguments.data_dir)?, listen, arguments.database_url)?;
    config.tls = tls;
    config.rate = arguments.rate.map(rate).transpose()?;
    Ok(config)
}

/// A control plane of this machine as its user has it.
pub fn local(data_dir: PathBuf, listen: SocketAddr, database_url: Option<String>) -> Result<Config, CliError> {
    let program =
        std::env::current_exe().map_err(|error| CliError::failed(messages::cannot_read("/proc/self/exe", error)))?;
    Ok(Config {
        data_dir,
        listen,
        database_url,
        tls: None,
        rate: None,
        program,
        runtime_dir: std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        host: Host::of_user(std::env::vars()),
    })
}

fn rate(dollars: f64) -> Result<Money, CliError> {
    // A million dollars an hour is a slip of the pen.
    if !(0.0..=1e6).contains(&dollars) {
        return Err(CliError::usage(messages::bad_rate(dollars)));
    }
    Ok(Money::from_nanos((dollars * 1e9).round() as i64))
}

/// `--data-dir` or `$DURE_DATA_DIR`, else `~/.local/share/dure`; absolute, because what is started from here
/// has other working directories.
pub fn data_dir(said: Option<PathBuf>) -> Result<PathBuf, CliError> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    let folder = said
        .filter(|path| !path.as_os_str().is_empty())
        .or_else(|| set("XDG_DATA_HOME").filter(|path| path.is_absolute()).map(|path| path.join("dure")))
        .or_else(|| set("HOME").map(|path| path.join(".local/share/dure")))
        .ok_or_else(|| CliError::usage(messages::no_data_home()))?;
    std::path::absolute(&folder).map_err(|error| CliError::usage(messages::cannot_read(folder.display(), error)))
}

/// For whoever runs it: what went wrong; more with DURE_LOG.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("DURE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // Set already only where a test did.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

/// Writes the profile that the CLI speaks to this control plane with; returns its name.
async fn sign_in(
    context: &Context,
    app: &App,
    (path, profiles): (&Path, &Profiles),
    certificate: Option<PathBuf>,
) -> Result<String, CliError> {
    let asked = context
        .profile()
        .map(str::to_owned)
        .or_else(|| std::env::var("DURE_PROFILE").ok().filter(|name| !name.is_empty()));
    let url = app.banner().url.as_str();
    let Some(token) = app.banner().token.as_deref() else {
        return moved(path, profiles, asked, url).await;
    };
    let name = match &asked {
        Some(name) => name.clone(),
        None => free_name(profiles, url),
    };
    let profile = Profile { url: url.to_owned(), token: token.to_owned(), project: None, ca: certificate };
    if let Err(error) = profile::write(path, &name, profile) {
        anstream::eprintln!("{}: {token}", messages::token_once());
        return Err(error);
    }
    if let Some(kept) = profiles.get(profile::DEFAULT).filter(|_| asked.is_none() && name != profile::DEFAULT) {
        anstream::eprintln!("{}", messages::profile_kept(profile::DEFAULT, &kept.url, &name));
    }
    Ok(name)
}

/// A later start: the profile whose token this control plane knows learns where it listens now.
async fn moved(path: &Path, profiles: &Profiles, asked: Option<String>, url: &str) -> Result<String, CliError> {
    let candidates = profiles.iter().filter(|(name, _)| asked.as_ref().is_none_or(|asked| asked == *name));
    for (name, profile) in candidates {
        let project = Name::new(profile::DEFAULT).map_err(|error| CliError::failed(error.to_string()))?;
        let certificates = profile.ca.as_ref().filter(|_| url.starts_with("https:")).map(std::fs::read);
        let client = match certificates {
            Some(Ok(pem)) => Client::trusting(url, &profile.token, project, &pem),
            _ => Client::new(url, &profile.token, project),
        };
        if let Ok(client) = client
            && client.get_identity().await.is_ok()
        {
            if profile.url != url {
                profile::write(path, name, Profile { url: url.to_owned(), ..profile.clone() })?;
            }
            return Ok(name.clone());
        }
    }
    Ok(String::new())
}

/// `default` where it is free or names this very address; a profile of another control plane keeps its
/// token, which nobody could make again.
fn free_name(profiles: &Profiles, url: &str) -> String {
    let is_free = |name: &str| profiles.get(name).is_none_or(|profile| profile.url == url);
    let numbered = (2..).map(|number| format!("local-{number}"));
    [profile::DEFAULT.to_owned(), "local".to_owned()]
        .into_iter()
        .chain(numbered)
        .find(|name| is_free(name))
        .unwrap_or_default()
}

fn render(banner: &Banner, profile: &str) -> String {
    let signed_in = if profile.is_empty() { messages::not_signed_in() } else { messages::signed_in(profile) };
    let facts = &banner.facts;
    let mut node =
        format!("{}: {} cores, {}", banner.node, Cpu::from_milli(facts.cpu_milli), format::bytes(facts.memory_bytes));
    if let Some(first) = facts.gpus.first() {
        node.push_str(&format!(", {} x {} {}", facts.gpus.len(), first.model, format::bytes(first.memory_bytes)));
    }
    let parts = [
        concat!("Dure ", env!("CARGO_PKG_VERSION")).to_owned(),
        format!("data {}", from_home(&banner.data_dir, std::env::var_os("HOME").map(PathBuf::from).as_deref())),
        format!("database {}", banner.database),
        format!("node {node}"),
        format!("limits {}", banner.limits),
    ];
    format!("{}\n{}   {signed_in}\n", format::clean(&parts.join("   ")), messages::listening(&banner.url))
}

/// `~/.local/share/dure`
fn from_home(path: &Path, home: Option<&Path>) -> String {
    match home.filter(|home| *home != Path::new("/")).and_then(|home| path.strip_prefix(home).ok()) {
        Some(inner) => format!("~/{}", inner.display()),
        None => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(line: &[&str]) -> Result<Config, CliError> {
        use clap::Parser as _;
        let line = ["dure", "up", "--data-dir", "/d"].iter().chain(line);
        match args::Cli::parse_from(line).command {
            args::Command::Up(arguments) => config(arguments),
            _ => Err(CliError::failed("not up")),
        }
    }

    #[test]
    fn another_address_needs_tls_or_a_word() {
        assert!(up(&["--listen", "0.0.0.0:7770"]).is_err());
        assert!(up(&["--listen", "[::]:7770"]).is_err());
        assert!(up(&["--listen", "0.0.0.0:7770", "--insecure"]).is_ok());
        assert!(up(&["--listen", "0.0.0.0:7770", "--tls-cert", "c", "--tls-key", "k"]).is_ok());
        assert_eq!(up(&[]).map_err(|error| error.render()).unwrap().listen.to_string(), "127.0.0.1:7770");
    }

    #[test]
    fn a_folder_at_home_is_short() {
        assert_eq!(from_home(Path::new("/h/.local/share/dure"), Some(Path::new("/h"))), "~/.local/share/dure");
        assert_eq!(from_home(Path::new("/srv/dure"), Some(Path::new("/h"))), "/srv/dure");
        assert_eq!(from_home(Path::new("/srv/dure"), Some(Path::new("/"))), "/srv/dure");
    }

    #[test]
    fn a_rate_is_an_amount_of_money() {
        assert_eq!(rate(0.031).map_err(|error| error.render()).unwrap(), Money::from_nanos(31_000_000));
        for bad in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_profile_of_another_control_plane_is_kept() {
        let profile = |url: &str| Profile { url: url.to_owned(), token: "t".to_owned(), project: None, ca: None };
        let mut profiles = Profiles::new();
        assert_eq!(free_name(&profiles, "http://127.0.0.1:7770"), "default");
        profiles.insert("default".to_owned(), profile("https://team.example"));
        assert_eq!(free_name(&profiles, "http://127.0.0.1:7770"), "local");
        assert_eq!(free_name(&profiles, "https://team.example"), "default");
        profiles.insert("local".to_owned(), profile("http://127.0.0.1:7771"));
        assert_eq!(free_name(&profiles, "http://127.0.0.1:7770"), "local-2");
    }
}
