//! What every part of the control plane shares.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use dure_engine::Engine;
use dure_gateway::Routes;
use dure_plan::{clock::SharedClock, schedule::State};
use dure_store::{Blobs, Store};
use dure_types::{
    Name, Timestamp,
    node::{NodeFacts, NodeRate},
};
use tokio::sync::watch;

use crate::{
    auth::Auth,
    config::Config,
    controllers::{run::Runs, service::Services},
    logs::Logs,
};

/// The machine that this control plane runs units on.
#[derive(Debug, Clone)]
pub struct ThisNode {
    pub name: Name,
    pub facts: NodeFacts,
    pub rate: NodeRate,
    pub limits: String,
}

pub struct Core {
    pub config: Config,
    pub store: Store,
    pub blobs: Blobs,
    pub engine: Arc<dyn Engine>,
    pub clock: SharedClock,
    pub node: ThisNode,
    pub logs: Logs,
    pub routes: Routes,
    pub auth: Auth,
    pub runs: Runs,
    pub services: Services,
    /// One change at a time is looked at and made, so that the same job is not started twice.
    pub changes: tokio::sync::Mutex<()>,
    schedule: Mutex<State>,
    draining: AtomicBool,
    ended: watch::Sender<bool>,
}

/// The parts that `Core` is made from.
pub struct Parts {
    pub config: Config,
    pub store: Store,
    pub blobs: Blobs,
    pub engine: Arc<dyn Engine>,
    pub clock: SharedClock,
    pub node: ThisNode,
    pub auth: Auth,
    pub runs: Runs,
    pub services: Services,
}

impl Core {
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { config, store, blobs, engine, clock, node, auth, runs, services } = parts;
        Arc::new(Self {
            logs: Logs::new(config.logs_dir()),
            config,
            store,
            blobs,
            engine,
            clock,
            node,
            routes: Routes::default(),
            auth,
            runs,
            services,
            changes: tokio::sync::Mutex::default(),
            schedule: Mutex::default(),
            draining: AtomicBool::new(false),
            ended: watch::Sender::new(false),
        })
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Held for moments only, never across an await.
    pub fn schedule(&self) -> MutexGuard<'_, State> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While everything is being ended nothing new is started.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// The control plane may end: everything that it was asked to end has ended.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    pub fn environment_dir(&self, digest: &dure_types::Digest) -> PathBuf {
        self.config.environments_dir().join(digest.as_str())
    }
}
