//! The engine interface: what every place that runs units can do.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::unit::{UnitEvent, UnitId, UnitSpec, UnitStatus};

pub type EventStream = BoxStream<'static, UnitEvent>;
pub type LogStream = BoxStream<'static, io::Result<Bytes>>;

/// Where files come from. Given to an engine by whoever keeps the blobs.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Makes a new file at `to` with the blob's content, verified against the digest. A copy or
    /// a reflink, never a link to the kept file itself: whoever changes `to` must not change it.
    async fn copy_to(&self, digest: &str, to: &Path) -> io::Result<()>;
}

/// What an engine can do beyond starting programs. A spec that asks for what is missing here is
/// refused before it reaches the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Units can run from a container image.
    pub images: bool,
    /// Units are kept apart from each other's files and processes.
    pub isolation: bool,
    /// A unit can have a share of a GPU.
    pub gpu_shares: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    pub hostname: String,
    pub os: String,
    /// Cores that units may use, rounded up.
    pub cores: u32,
    pub memory_bytes: u64,
    pub gpus: Vec<Gpu>,
    /// How limits are enforced, in words.
    pub limits: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    pub id: String,
    pub model: String,
    pub memory_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

#[async_trait]
pub trait Engine: Send + Sync {
    fn name(&self) -> &str;

    fn capabilities(&self) -> Capabilities;

    async fn probe(&self) -> Result<NodeFacts, EngineError>;

    /// Puts the unit's files in place and starts it. With an id that is known already it does
    /// nothing, whether that unit runs or has ended. A command that cannot be run is no error
    /// here: the unit ends with that outcome.
    async fn ensure(&self, spec: &UnitSpec) -> Result<(), EngineError>;

    /// Asks the unit to end, and kills what is left of it after the grace. Returns at once; the
    /// end comes as an event.
    async fn stop(&self, id: &UnitId) -> Result<(), EngineError>;

    /// Kills the unit if it lives, and deletes everything of it. Nothing to remove is no error.
    async fn remove(&self, id: &UnitId) -> Result<(), EngineError>;

    async fn list(&self) -> Result<Vec<UnitStatus>, EngineError>;

    /// Begins with the current state of every unit, goes on with what changes, and ends only
    /// with the engine.
    fn watch(&self) -> EventStream;

    /// What the unit writes, stdout and stderr together, from `offset`; ends when the unit has
    /// ended and all of it was read.
    fn logs(&self, id: &UnitId, offset: u64) -> LogStream;

    /// The folder on this machine that the unit sees as `$DURE_OUTPUT`.
    fn outputs(&self, id: &UnitId) -> PathBuf;

    /// Where the unit answers; none if it was not asked to.
    async fn address(&self, id: &UnitId) -> Result<Option<Address>, EngineError>;

    /// Ends every unit and the engine's own processes on the machine, and says which units that
    /// ended. What the units left stays until it is removed.
    async fn shutdown(&self) -> Result<Vec<UnitId>, EngineError>;
}
