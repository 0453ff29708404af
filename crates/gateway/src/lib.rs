//! How requests reach models. One port: `/s/PROJECT/SERVICE/...` goes to a ready replica of that
//! service, everything else to the API.
//!
//! One thread with a runtime of its own per core; a request to a service stays on the core that
//! accepted it, with that core's own connections to the replicas. Who may ask for what, and where
//! the replicas are, is a table that the control plane publishes through [`Routes`]; what was served
//! is counted per service and read through the same handle.
//!
//! It deliberately does not: start or probe replicas (only ready ones stand in the table), hold
//! tokens (only their hashes), authenticate the API (which does that itself), gather or look into
//! bodies, cache, or speak HTTP/2.

mod api;
mod balance;
mod body;
mod connection;
mod headers;
mod path;
mod problem;
mod proxy;
mod routes;
mod stats;
mod upstream;
mod worker;

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
use tokio::{runtime::Handle, sync::watch};
use tokio_rustls::TlsAcceptor;

use api::Api;
pub use api::ApiBody;
pub use routes::{Address, Caller, Projects, Replica, Routes, Service, Table, TokenHash};
pub use stats::{Latency, ServiceStats};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the gateway must be started inside a tokio runtime")]
    NoRuntime,
    #[error("the gateway needs at least one worker")]
    NoWorker,
    #[error("the gateway cannot use its listener: {0}")]
    Listener(#[source] io::Error),
    #[error("a gateway worker cannot start: {0}")]
    Worker(#[source] io::Error),
}

/// Bounds that keep one caller, or one replica, from holding up the others.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the first byte of a request's head to its last; also of a TLS handshake.
    pub header_read: Duration,
    pub header_bytes: usize,
    /// Between requests on a caller's connection.
    pub idle: Duration,
    pub connections_per_worker: usize,
    pub connect: Duration,
    /// How long a replica may neither take a part of the request nor begin to answer.
    pub response_head: Duration,
    /// Connections that a worker keeps to one replica while nothing is asked.
    pub idle_per_replica: usize,
    pub upstream_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(30),
            header_bytes: 64 << 10,
            idle: Duration::from_secs(75),
            connections_per_worker: 10_000,
            connect: Duration::from_secs(5),
            response_head: Duration::from_secs(300),
            idle_per_replica: 256,
            upstream_idle: Duration::from_secs(60),
        }
    }
}

pub struct Config {
    /// Bound already, so that "port in use" is told by whoever chose the port.
    pub listener: TcpListener,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub workers: usize,
    pub limits: Limits,
}

/// In the extensions of a request to the API: where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    pub peer: SocketAddr,
    pub https: bool,
}

/// Dropped without [`Gateway::shutdown`], it stops at once and cuts what is under way.
pub struct Gateway {
    address: SocketAddr,
    stop: watch::Sender<Option<Duration>>,
    threads: Vec<JoinHandle<usize>>,
}

impl Gateway {
    /// Serves as soon as this returns. `api` is called on the tokio runtime that this is called in.
    pub fn start<A, B>(config: Config, routes: Routes, api: A) -> Result<Self, Error>
    where
        A: tower::Service<Request<ApiBody>, Response = Response<B>> + Clone + Send + 'static,
        A::Future: Send,
        A::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let main = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        if config.workers == 0 {
            return Err(Error::NoWorker);
        }
        config.listener.set_nonblocking(true).map_err(Error::Listener)?;
        keep_alive(&config.listener).map_err(|error| Error::Listener(error.into()))?;
        let address = config.listener.local_addr().map_err(Error::Listener)?;
        let tls = config.tls.map(|tls| {
            let mut tls = rustls::ServerConfig::clone(&tls);
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            TlsAcceptor::from(Arc::new(tls))
        });
        let seeds = RandomState::new();
        // From here on, an early return drops the gateway, which stops the workers that run already.
        let mut gateway = Self { address, stop: watch::Sender::new(None), threads: Vec::new() };
        let (ready, begun) = mpsc::channel();
        for index in 0..config.workers {
            let start = worker::Start {
                index,
                seed: seeds.hash_one(index),
                listener: config.listener.try_clone().map_err(Error::Listener)?,
                tls: tls.clone(),
                limits: config.limits.clone(),
                routes: routes.clone(),
                api: Api::new(main.clone(), api.clone()),
                stop: gateway.stop.subscribe(),
            };
            let ready = ready.clone();
            let thread = std::thread::Builder::new().name(format!("gateway-{index}"));
            gateway.threads.push(thread.spawn(move || worker::run(start, ready)).map_err(Error::Worker)?);
        }
        drop(ready);
        for _ in 0..config.workers {
            let stopped = || Err(io::Error::other("its thread ended"));
            begun.recv().unwrap_or_else(|_| stopped()).map_err(Error::Worker)?;
        }
        Ok(gateway)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nothing more and lets what is under way end within the grace. Returns how many
    /// connections had to be cut.
    pub async fn shutdown(mut self, grace: Duration) -> usize {
        self.stop.send_replace(Some(grace));
        let threads = std::mem::take(&mut self.threads);
        let join = move || threads.into_iter().map(|thread| thread.join().unwrap_or_default()).sum();
        tokio::task::spawn_blocking(join).await.unwrap_or_default()
    }
}

/// Linux hands these on to every accepted connection: a stream or tunnel whose caller vanished
/// without a word ends after two minutes.
fn keep_alive(listener: &TcpListener) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_keepidle(listener, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(listener, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(listener, 4)
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.send_if_modified(|stop| stop.replace(Duration::ZERO).is_none());
    }
}
