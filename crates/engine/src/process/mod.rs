//! The process engine: units are processes of this machine, with no container engine needed.
//!
//! This side stages files and asks; the keeper (`keeper`), a process of its own that outlives
//! whoever started it, starts the units and waits for them. Units are not kept from each other's
//! files: they run as the same user. See README.md here.

mod environment;
pub mod keeper;
mod link;
mod logs;
mod node;
mod places;
mod spare;
mod stage;
mod view;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;

use crate::engine::{Address, Blobs, Capabilities, Engine, EventStream, LogStream, NodeFacts};
use crate::error::EngineError;
use crate::unit::{InvalidSpec, UnitId, UnitSpec, UnitStatus};
use keeper::processes::Held;
use keeper::protocol::{Ask, Launch, Reply};
use link::{Link, Settings};
pub use places::default_runtime_folder;
use places::{Sockets, State};
use view::View;

#[derive(Debug, Clone)]
pub struct Config {
    /// Kept: the units' folders and records. Absolute.
    pub state_dir: PathBuf,
    /// For sockets: short, private, gone with the machine's next start. Made if it is missing.
    pub runtime_dir: PathBuf,
    /// The keeper's program and first arguments: `dure keeper`, or `dure-keeper`.
    pub keeper_command: Vec<OsString>,
    /// How long a keeper with nothing to do stays; its own minute if none.
    pub keeper_idle: Option<Duration>,
}

pub struct ProcessEngine {
    state: State,
    sockets: Sockets,
    blobs: Arc<dyn Blobs>,
    spare: Arc<spare::Spare>,
    view: Arc<View>,
    link: Link,
    watches: Arc<logs::Watches>,
    /// One at a time for each unit: staging and removing.
    busy: Mutex<HashMap<UnitId, Arc<tokio::sync::Mutex<()>>>>,
}

impl ProcessEngine {
    /// Connects to this state folder's keeper, starting it if there is none. One engine at a
    /// time may use a state folder; whoever starts it sees to that.
    pub async fn start(config: Config, blobs: Arc<dyn Blobs>) -> Result<Self, EngineError> {
        let state = State::new(config.state_dir.clone());
        if !config.state_dir.is_absolute() || config.state_dir.to_str().is_none() {
            return Err(EngineError::Io {
                path: config.state_dir,
                source: std::io::Error::other("the state folder must be absolute and UTF-8"),
            });
        }
        for folder in [state.units(), state.staging(), state.spare()] {
            std::fs::create_dir_all(&folder).map_err(|source| EngineError::Io { path: folder, source })?;
        }
        let sockets = Sockets::prepare(&config.runtime_dir, &config.state_dir)?;
        let view = Arc::new(View::default());
        let settings = Settings {
            state: state.clone(),
            socket: sockets.keeper(),
            command: config.keeper_command,
            idle: config.keeper_idle,
        };
        let link = Link::open(settings, view.clone()).await?;
        stage::clean(&state, |id| view.is_known(id))
            .map_err(|source| EngineError::Io { path: config.state_dir, source })?;
        let watches = logs::Watches::new().map_err(|source| EngineError::Io { path: "inotify".into(), source })?;
        let spare = Arc::new(spare::Spare::new(state.spare()));
        Ok(ProcessEngine {
            state,
            spare,
            sockets,
            blobs,
            view,
            link,
            watches: Arc::new(watches),
            busy: Mutex::default(),
        })
    }

    /// The keeper's process, for whoever wants to show it.
    pub async fn keeper_pid(&self) -> Result<u32, EngineError> {
        Ok(self.link.hello().await?.pid)
    }

    async fn alone<T>(&self, id: &UnitId, work: impl Future<Output = T>) -> T {
        let lock = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.entry(id.clone()).or_default().clone()
        };
        let guard = lock.lock().await;
        let result = work.await;
        drop(guard);
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        // Ours and the map's: nobody else waits.
        if Arc::strong_count(&lock) == 2 {
            busy.remove(id);
        }
        result
    }

    async fn stage_and_start(&self, spec: &UnitSpec, launch: Launch) -> Result<(), EngineError> {
        stage::stage(&self.state, &self.spare, spec, &*self.blobs).await?;
        match self.link.call(Ask::Start(Box::new(launch))).await? {
            Reply::Failed(message) => Err(EngineError::Start { unit: spec.id.clone(), message }),
            _ => Ok(()),
        }
    }

    fn launch(&self, spec: &UnitSpec) -> Result<Launch, InvalidSpec> {
        spec.validate()?;
        let socket = spec.listen.then(|| self.sockets.unit(&spec.id));
        let env = environment::environment(spec, &self.state.unit(&spec.id), socket.as_deref())?;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Ok(Launch {
            id: spec.id.clone(),
            command: spec.command.clone(),
            env,
            cpu_milli: spec.cpu_milli,
            memory_bytes: spec.memory_bytes,
            timeout_micros: spec.timeout.map(micros),
            grace_micros: micros(spec.grace),
            socket,
        })
    }
}

#[async_trait]
impl Engine for ProcessEngine {
    fn name(&self) -> &str {
        "process"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { images: false, isolation: false, gpu_shares: false }
    }

    async fn probe(&self) -> Result<NodeFacts, EngineError> {
        let hello = self.link.hello().await?;
        Ok(node::facts(hello.limits).await)
    }

    async fn ensure(&self, spec: &UnitSpec) -> Result<(), EngineError> {
        let invalid = |source| EngineError::Invalid { unit: spec.id.clone(), source };
        let launch = self.launch(spec).map_err(invalid)?;
        let id = &spec.id;
        self.alone(id, async {
            if self.view.has_started(id) {
                return Ok(());
            }
            self.view.starting(id, launch.socket.clone());
            let result = self.stage_and_start(spec, launch).await;
            if result.is_err() {
                self.view.not_started(id);
            }
            result
        })
        .await
    }

    async fn stop(&self, id: &UnitId) -> Result<(), EngineError> {
        match self.link.call(Ask::Stop(id.clone())).await? {
            Reply::NoSuchUnit => Err(EngineError::NotFound(id.clone())),
            _ => Ok(()),
        }
    }

    async fn remove(&self, id: &UnitId) -> Result<(), EngineError> {
        self.alone(id, async {
            self.link.call(Ask::Remove(id.clone())).await?;
            stage::remove(&self.state, &self.spare, id).await?;
            self.view.removed(id);
            Ok(())
        })
        .await
    }

    async fn list(&self) -> Result<Vec<UnitStatus>, EngineError> {
        self.link.hello().await?;
        Ok(self.view.list())
    }

    fn watch(&self) -> EventStream {
        let mut events = self.view.watch();
        futures_util::stream::poll_fn(move |context| events.poll_recv(context)).boxed()
    }

    fn logs(&self, id: &UnitId, offset: u64) -> LogStream {
        let path = self.state.unit(id).join(places::LOG);
        logs::follow(self.watches.clone(), path, offset, self.view.until_end(id))
    }

    fn outputs(&self, id: &UnitId) -> PathBuf {
        self.state.unit(id).join(places::OUTPUT)
    }

    async fn address(&self, id: &UnitId) -> Result<Option<Address>, EngineError> {
        match self.view.socket(id) {
            Some(socket) => Ok(socket.map(Address::Unix)),
            None => Err(EngineError::NotFound(id.clone())),
        }
    }

    async fn shutdown(&self) -> Result<Vec<UnitId>, EngineError> {
        let keeper = self.link.hello().await?.pid;
        let held = Held::open(keeper.cast_signed()).ok().flatten();
        let reply = self.link.call(Ask::Shutdown).await?;
        if let Some(keeper) = held {
            let _ = tokio::time::timeout(Duration::from_secs(10), keeper.ended()).await;
        }
        match reply {
            Reply::Stopped(ids) => Ok(ids),
            Reply::Failed(message) => Err(EngineError::KeeperStart(message)),
            Reply::Done | Reply::NoSuchUnit => Ok(vec![]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least that a unit can be.
    pub fn spec(id: &str, command: &[&str]) -> UnitSpec {
        UnitSpec {
            id: UnitId::new(id).unwrap(),
            command: command.iter().map(|part| part.to_string()).collect(),
            env: Default::default(),
            path_prefix: vec![],
            cpu_milli: 0,
            memory_bytes: 0,
            devices: vec![],
            mounts: vec![],
            timeout: None,
            grace: Duration::from_secs(1),
            listen: false,
            parameters: serde_json::Value::Null,
        }
    }
}
