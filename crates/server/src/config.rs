//! What the control plane is started with, and why it cannot be.

use std::{io, net::SocketAddr, path::PathBuf};

use dure_types::{Code, Money, Problem};

#[derive(Debug, Clone)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// SQLite in the data directory unless given.
    pub database_url: Option<String>,
    pub tls: Option<Tls>,
    /// What an hour of this machine costs, where its owner says so.
    pub rate: Option<Money>,
    /// Where the machine keeps sockets ($XDG_RUNTIME_DIR), if it has such a place.
    pub runtime_dir: Option<PathBuf>,
    /// The binary that knows `keeper`, `model-server` and `build-environment`.
    pub program: PathBuf,
    /// Package index, proxies and certificates that builds are given.
    pub host: dure_image::Host,
}

impl Config {
    pub fn blobs_dir(&self) -> PathBuf {
        self.data_dir.join("blobs")
    }

    pub fn logs_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    pub fn environments_dir(&self) -> PathBuf {
        self.data_dir.join("environments")
    }

    pub fn python_dir(&self) -> PathBuf {
        self.data_dir.join("python")
    }

    pub fn keeper_dir(&self) -> PathBuf {
        self.data_dir.join("keeper")
    }
}

/// Why the control plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("another `dure up` is running on {0}")]
    SecondOnDataDir(PathBuf),
    #[error("{address} is in use")]
    PortInUse { address: SocketAddr },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot use the data directory {path}: {source}")]
    DataDir { path: PathBuf, source: io::Error },
    #[error("cannot use the TLS file {path}: {message}")]
    Tls { path: PathBuf, message: String },
    #[error("the database cannot be used: {0}")]
    Store(#[from] dure_store::StoreError),
    #[error("the keeper of this machine cannot be started: {0}")]
    Engine(#[from] dure_engine::EngineError),
    #[error("the gateway cannot be started: {0}")]
    Gateway(#[from] dure_gateway::Error),
    #[error("{0}")]
    Internal(String),
}

impl StartError {
    pub fn problem(&self) -> Problem {
        let problem = Problem::new(Code::StartFailed, self.to_string());
        match self {
            Self::SecondOnDataDir(_) => {
                problem.next("use it as it is (dure ps), end it with dure down, or give another --data-dir")
            }
            Self::PortInUse { .. } => {
                problem.next("give another with --listen 127.0.0.1:PORT (port 0 takes a free one)")
            }
            Self::Listen { .. } => problem.next("give another address with --listen"),
            Self::DataDir { .. } => problem.next("give another with --data-dir, or make it writable"),
            Self::Tls { .. } => problem.next("--tls-cert and --tls-key take PEM files"),
            Self::Store(_) => {
                problem.next("check --database-url, the disk's free space and the rights on the data directory")
            }
            Self::Engine(_) => problem.next("see keeper/keeper.log in the data directory"),
            Self::Gateway(_) | Self::Internal(_) => problem,
        }
    }
}
