//! The assembled control plane: started, addressed, ended.

use std::{
    fs::{self, File, TryLockError},
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use dure_engine::{
    Engine,
    process::{self, ProcessEngine},
};
use dure_gateway::{Gateway, Limits};
use dure_plan::{
    clock::{Clock, MachineClock},
    price,
    schedule::Machine,
};
use dure_store::{Blobs, NodeRow, Store, StoreConfig};
use dure_types::{
    Digest, Name,
    node::{Gpu, NodeFacts},
};
use tokio::task::JoinHandle;

use crate::{
    api,
    auth::Auth,
    config::{Config, StartError},
    controllers,
    core::{Core, Parts, ThisNode},
    first_start, python,
};

/// What is told when it has started.
#[derive(Debug, Clone)]
pub struct Banner {
    pub url: String,
    pub data_dir: PathBuf,
    /// `SQLite` or `PostgreSQL`.
    pub database: &'static str,
    pub node: Name,
    pub facts: NodeFacts,
    pub limits: String,
    /// The owner's token, at the first start only.
    pub token: Option<String>,
}

/// A running control plane.
pub struct App {
    core: Arc<Core>,
    gateway: Gateway,
    tasks: Vec<JoinHandle<()>>,
    banner: Banner,
    /// Held as long as this runs: one control plane to a data directory.
    _lock: Option<File>,
}

/// How long requests that are under way may take to end.
const GRACE: Duration = Duration::from_secs(5);

impl App {
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let data_dir = config.data_dir.clone();
        let is_new = !data_dir.exists();
        let lock = lock(&data_dir)?;
        match Self::assemble(config).await {
            Ok(app) => Ok(Self { _lock: Some(lock), ..app }),
            Err(error) => {
                if is_new {
                    forget(&data_dir);
                }
                Err(error)
            }
        }
    }

    async fn assemble(config: Config) -> Result<Self, StartError> {
        let tls = config.tls.as_ref().map(crate::tls::load).transpose()?;
        let listener = listen(config.listen)?;
        let clock = Arc::new(MachineClock);
        let url = match &config.database_url {
            Some(url) => StoreConfig { url: url.clone() },
            None => StoreConfig::sqlite(&config.data_dir.join("dure.db"))?,
        };
        let database = if url.url.starts_with("sqlite") { "SQLite" } else { "PostgreSQL" };
        let store = Store::open(url).await?;
        let blobs = Blobs::open(&config.blobs_dir(), clock.now())?;
        python::lay_out(&config.python_dir()).map_err(data_dir(&config.python_dir()))?;
        let token =
            first_start::prepare(&store, clock.now()).await.map_err(|error| StartError::Internal(error.to_string()))?;
        let auth = Auth::default();
        auth.refresh(&store).await?;

        let engine: Arc<dyn Engine> = Arc::new(start_engine(&config, &blobs).await?);
        let node = this_node(&config, engine.as_ref()).await?;
        let row = NodeRow {
            name: node.name.clone(),
            engine: engine.name().to_owned(),
            facts: node.facts.clone(),
            rate: node.rate.clone(),
            limits: node.limits.clone(),
            ready: true,
            seen_at: clock.now(),
        };
        store.write(move |tx| Box::pin(async move { tx.upsert_node(&row).await })).await?;

        let (runs, runs_inbox) = controllers::run::Runs::channel();
        let (services, services_inbox) = controllers::service::Services::channel();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let banner = Banner {
            url: format!(
                "{scheme}://{}",
                shown(listener.local_addr().map_err(|source| StartError::Listen { address: config.listen, source })?)
            ),
            data_dir: config.data_dir.clone(),
            database,
            node: node.name.clone(),
            facts: node.facts.clone(),
            limits: node.limits.clone(),
            token,
        };
        let machine = Machine::new(node.facts.clone(), true);
        let name = node.name.clone();
        let core = Core::new(Parts { config, store, blobs, engine, clock, node, auth, runs, services });
        core.schedule().set_machine(name, machine);
        let tasks = vec![
            tokio::spawn(controllers::run::run(Arc::clone(&core), runs_inbox)),
            tokio::spawn(controllers::service::run(Arc::clone(&core), services_inbox)),
        ];
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let gateway = dure_gateway::Config { listener, tls, workers, limits: Limits::default() };
        let gateway = Gateway::start(gateway, core.routes.clone(), api::router(&core))?;
        Ok(Self { core, gateway, tasks, banner, _lock: None })
    }

    pub fn banner(&self) -> &Banner {
        &self.banner
    }

    /// Serves until it is asked to end everything through the API, or `stop` is done: then it ends by itself
    /// and what runs goes on.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut ended = self.core.ended();
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => {}
            () = stop => self.core.end(),
        }
        self.gateway.shutdown(GRACE).await;
        for task in self.tasks {
            let _ = task.await;
        }
        self.core.store.close().await;
    }
}

fn data_dir(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::DataDir { path, source }
}

fn lock(folder: &Path) -> Result<File, StartError> {
    use std::os::unix::fs::DirBuilderExt;

    if folder.exists() && !folder.is_dir() {
        return Err(data_dir(folder)(io::ErrorKind::NotADirectory.into()));
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(data_dir(folder))?;
    let path = folder.join("dure.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(data_dir(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::SecondOnDataDir(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(StartError::DataDir { path, source }),
    }
}

/// Takes away a data directory that was made for a start that failed, where nothing but the lock is in it.
fn forget(folder: &Path) {
    let lock = folder.join("dure.lock");
    let only_the_lock = fs::read_dir(folder)
        .is_ok_and(|mut inside| inside.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "dure.lock")));
    // What cannot be removed harms nobody.
    if only_the_lock && fs::remove_file(lock).is_ok() {
        let _ = fs::remove_dir(folder);
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortInUse { address },
        _ => StartError::Listen { address, source },
    })
}

/// An address that one can go to: everywhere is here.
fn shown(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Gives engines the blobs, as verified copies.
struct BlobSource(Blobs);

#[async_trait]
impl dure_engine::Blobs for BlobSource {
    async fn copy_to(&self, digest: &str, to: &Path) -> io::Result<()> {
        let digest: Digest = digest.parse().map_err(io::Error::other)?;
        self.0.copy_to(&digest, to, false).await.map_err(io::Error::other)
    }
}

async fn start_engine(config: &Config, blobs: &Blobs) -> Result<ProcessEngine, StartError> {
    let state_dir = std::path::absolute(config.keeper_dir()).map_err(data_dir(&config.keeper_dir()))?;
    let engine = process::Config {
        state_dir,
        runtime_dir: process::default_runtime_folder(config.runtime_dir.clone()),
        keeper_command: vec![config.program.clone().into_os_string(), "keeper".into()],
        keeper_idle: None,
    };
    Ok(ProcessEngine::start(engine, Arc::new(BlobSource(blobs.clone()))).await?)
}

async fn this_node(config: &Config, engine: &dyn Engine) -> Result<ThisNode, StartError> {
    let found = engine.probe().await?;
    let gpu = |gpu: dure_engine::Gpu| Gpu { id: gpu.id, model: gpu.model, memory_bytes: gpu.memory_bytes };
    let facts = NodeFacts {
        cpu_milli: u64::from(found.cores) * 1000,
        memory_bytes: found.memory_bytes,
        gpus: found.gpus.into_iter().map(gpu).collect(),
    };
    let rate = config.rate.map_or_else(|| price::assumed_rate(&facts), price::stated_rate);
    Ok(ThisNode { name: node_name(&found.hostname), facts, rate, limits: found.limits })
}

/// The host's name as far as it can be one of ours.
fn node_name(hostname: &str) -> Name {
    let label = hostname.split('.').next().unwrap_or_default().to_lowercase();
    let clean: String = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    let fallback = || Name::new("this-machine");
    #[expect(clippy::expect_used, reason = "a constant that the test of names covers")]
    Name::new(clean.trim_matches('-')).or_else(|_| fallback()).expect("a name")
}
