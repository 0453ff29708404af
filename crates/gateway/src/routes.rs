//! Who may reach what, and where it is: a table that the control plane replaces as a whole and every
//! worker reads without a lock.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use dure_types::Name;
use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::stats::{Register, ServiceStats};

/// SHA-256 of a bearer token. The gateway never holds a token itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// The projects whose services a caller reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projects {
    All,
    Only(HashSet<String>),
}

/// Who stands behind a token.
#[derive(Debug, Clone)]
pub struct Caller {
    user: HeaderValue,
    projects: Projects,
}

const NOT_IN_HEADER: &AsciiSet = &CONTROLS.add(b'%');

impl Caller {
    /// The user's name reaches replicas as `X-Dure-User`, percent-encoded where it is not ASCII.
    pub fn new(user: &str, projects: Projects) -> Self {
        let user = utf8_percent_encode(user, NOT_IN_HEADER).to_string();
        let user = HeaderValue::try_from(user).unwrap_or(HeaderValue::from_static(""));
        Self { user, projects }
    }

    pub(crate) fn header(&self) -> &HeaderValue {
        &self.user
    }

    pub(crate) fn reaches(&self, project: &str) -> bool {
        match &self.projects {
            Projects::All => true,
            Projects::Only(some) => some.contains(project),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// A ready replica: one that is not ready does not stand in the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Replica {
    pub id: String,
    pub address: Address,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub replicas: Vec<Replica>,
    /// Said in each answer as `X-Dure-Revision`.
    pub revision: String,
    /// Said while there is no replica.
    pub not_ready_reason: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Table {
    pub tokens: HashMap<TokenHash, Caller>,
    /// By `PROJECT/SERVICE`, so that a request's path is the key as it stands.
    services: HashMap<String, Arc<Service>>,
}

impl Table {
    /// Passing on the same `Arc` for a service that did not change saves the workers the comparison.
    pub fn insert(&mut self, project: &Name, service: &Name, route: Arc<Service>) {
        self.services.insert(format!("{project}/{service}"), route);
    }

    pub(crate) fn service(&self, key: &str) -> Option<&Arc<Service>> {
        self.services.get(key)
    }
}

struct Shared {
    table: ArcSwap<Table>,
    generation: AtomicU64,
    published: watch::Sender<()>,
    register: Register,
}

/// A cheap handle: the control plane publishes through it, and reads what was served.
#[derive(Clone)]
pub struct Routes(Arc<Shared>);

impl Default for Routes {
    fn default() -> Self {
        Self(Arc::new(Shared {
            table: ArcSwap::default(),
            generation: AtomicU64::new(0),
            published: watch::Sender::new(()),
            register: Register::default(),
        }))
    }
}

impl Routes {
    /// Holds for every request that arrives after this returns. Requests that are under way end as
    /// they began.
    pub fn publish(&self, table: Table) {
        self.0.table.store(Arc::new(table));
        self.0.generation.fetch_add(1, Ordering::Release);
        self.0.published.send_replace(());
    }

    /// Per `PROJECT/SERVICE`, since this process started.
    pub fn stats(&self) -> HashMap<String, ServiceStats> {
        self.0.register.read()
    }

    /// Read before `table`, so that a table is never older than its generation.
    pub(crate) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        self.0.table.load_full()
    }

    pub(crate) fn published(&self) -> watch::Receiver<()> {
        self.0.published.subscribe()
    }

    pub(crate) fn register(&self) -> &Register {
        &self.0.register
    }
}
