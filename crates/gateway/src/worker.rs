//! One core's share: a thread with a runtime, its own accepts, its own connections to replicas, its
//! own copy of the table.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, LocalOptions},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Connection, Limits,
    api::Api,
    balance::SplitMix,
    body::{Kind, ResponseBody},
    connection::{CallerStream, Clock, Serving, Transport, drive},
    path::{self, Target},
    problem::Refusal,
    proxy::{self, Peer},
    routes::{Caller, Routes, Table, TokenHash},
    upstream::LocalService,
};

/// Larger than the largest head, so that hyper can say 431.
const READ_BUFFER: usize = 128 << 10;

pub(crate) struct Worker {
    index: usize,
    routes: Routes,
    pub limits: Rc<Limits>,
    seen: Cell<u64>,
    table: RefCell<Arc<Table>>,
    services: RefCell<HashMap<String, Rc<LocalService>>>,
    random: Cell<SplitMix>,
    stopping: Cell<bool>,
    stop: Notify,
}

impl Worker {
    fn new(index: usize, seed: u64, routes: Routes, limits: Limits) -> Self {
        Self {
            index,
            seen: Cell::new(routes.generation()),
            table: RefCell::new(routes.table()),
            routes,
            limits: Rc::new(limits),
            services: RefCell::default(),
            random: Cell::new(SplitMix(seed)),
            stopping: Cell::new(false),
            stop: Notify::new(),
        }
    }

    pub fn random(&self) -> u64 {
        let mut random = self.random.get();
        let next = random.draw();
        self.random.set(random);
        next
    }

    /// Asks the table of this moment who a token is, with a way to look services up in the same table.
    pub fn admit<T>(
        &self,
        token: &TokenHash,
        decide: impl FnOnce(Option<&Caller>, &dyn Fn(&str) -> Option<Rc<LocalService>>) -> T,
    ) -> T {
        self.refresh();
        let table = self.table.borrow();
        decide(table.tokens.get(token), &|key| self.service(&table, key))
    }

    fn service(&self, table: &Table, key: &str) -> Option<Rc<LocalService>> {
        let mut services = self.services.borrow_mut();
        if let Some(known) = services.get(key) {
            return Some(known.clone());
        }
        let route = table.service(key)?;
        let cell = self.routes.register().cell(key, self.index);
        let local = Rc::new(LocalService::new(key, route, cell, &self.limits));
        services.insert(key.to_owned(), local.clone());
        Some(local)
    }

    /// Takes over a newer table. What the old one led to and the new one does not is retired at once.
    fn refresh(&self) {
        let generation = self.routes.generation();
        if generation == self.seen.get() {
            return;
        }
        self.seen.set(generation);
        let table = self.routes.table();
        self.services.borrow_mut().retain(|key, local| match table.service(key) {
            Some(route) if Arc::ptr_eq(route, &local.route) => true,
            Some(route) => {
                *local = Rc::new(local.with(route, &self.limits));
                true
            }
            None => {
                local.retire();
                false
            }
        });
        self.table.replace(table);
    }

    /// So that connections end with their replica even where no request comes.
    async fn keep_house(self: Rc<Self>) {
        let mut published = self.routes.published();
        self.refresh();
        let mut tick = tokio::time::interval(self.limits.upstream_idle.max(Duration::from_millis(2)) / 2);
        loop {
            tokio::select! {
                changed = published.changed() => match changed {
                    Ok(()) => self.refresh(),
                    Err(_) => return,
                },
                _ = tick.tick() => {
                    let now = Instant::now();
                    self.services.borrow().values().for_each(|service| service.sweep(now));
                }
            }
        }
    }
}

/// What a thread is started with.
pub(crate) struct Start {
    pub index: usize,
    pub seed: u64,
    pub listener: std::net::TcpListener,
    pub tls: Option<TlsAcceptor>,
    pub limits: Limits,
    pub routes: Routes,
    pub api: Api,
    /// Nothing while it should run; then the grace.
    pub stop: watch::Receiver<Option<Duration>>,
}

/// A thread's whole life. Says through `ready` whether it could begin; returns how many connections
/// were cut at its end.
pub(crate) fn run(start: Start, ready: mpsc::Sender<io::Result<()>>) -> usize {
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return 0;
        }
    };
    runtime.block_on(async {
        let begun = TcpListener::from_std(start.listener);
        let (listener, begun) = match begun {
            Ok(listener) => (Some(listener), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let _ = ready.send(begun);
        let Some(listener) = listener else {
            return 0;
        };
        let most = start.limits.connections_per_worker.clamp(1, Semaphore::MAX_PERMITS);
        let connections = Arc::new(Semaphore::new(most));
        let worker = Rc::new(Worker::new(start.index, start.seed, start.routes, start.limits));
        tokio::task::spawn_local(worker.clone().keep_house());
        let door = Rc::new(Door { worker: worker.clone(), api: start.api, tls: start.tls });
        let mut stop = start.stop;
        tokio::select! {
            () = accept(door, listener, &connections) => {}
            _ = stop.wait_for(Option::is_some) => {}
        }
        worker.stopping.set(true);
        worker.stop.notify_waiters();
        let grace = stop.borrow().unwrap_or_default();
        let all = u32::try_from(most).unwrap_or(u32::MAX);
        let _ = timeout(grace, connections.acquire_many(all)).await;
        most - connections.available_permits().min(most)
    })
}

/// What each connection of a worker needs.
struct Door {
    worker: Rc<Worker>,
    api: Api,
    tls: Option<TlsAcceptor>,
}

async fn accept(door: Rc<Door>, listener: TcpListener, connections: &Arc<Semaphore>) {
    let mut pause = Duration::from_millis(10);
    // At the limit it stops accepting: the kernel's queue, then the callers, wait.
    while let Ok(permit) = connections.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, address)) => {
                pause = Duration::from_millis(10);
                tokio::task::spawn_local(serve(door.clone(), stream, address, permit));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Out of file descriptors or memory, mostly: others end, then it goes on.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

async fn serve(door: Rc<Door>, stream: TcpStream, address: SocketAddr, permit: OwnedSemaphorePermit) {
    let _ = stream.set_nodelay(true);
    let limits = door.worker.limits.clone();
    let transport = match &door.tls {
        None => Transport::Plain(stream),
        Some(acceptor) => match timeout(limits.header_read, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Transport::Tls(Box::new(stream)),
            Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => return,
        },
    };
    let header = HeaderValue::try_from(address.ip().to_canonical().to_string());
    let header = header.unwrap_or(HeaderValue::from_static("unknown"));
    let peer = Rc::new(Peer { address, header, https: door.tls.is_some() });
    let clock = Arc::new(Clock::new());
    let stream = CallerStream { transport, clock: clock.clone(), _permit: permit };
    let worker = door.worker.clone();
    let service = service_fn(|request: Request<Incoming>| {
        let serving = Serving::begin(&clock);
        let (door, peer) = (door.clone(), peer.clone());
        async move { Ok::<_, Infallible>(answer(&door, &peer, request, serving).await) }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(limits.header_bytes)
        .max_buf_size(READ_BUFFER.max(limits.header_bytes * 2))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let stop = worker.stop.notified();
    let ended =
        drive(connection, &clock, &limits, stop, || worker.stopping.get(), |connection| connection.graceful_shutdown())
            .await;
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, peer = %peer.address, "a connection ended");
    }
}

async fn answer(door: &Door, peer: &Peer, mut request: Request<Incoming>, serving: Serving) -> Response<ResponseBody> {
    let result = if path::parse(request.uri().path()) == Target::Api {
        request.extensions_mut().insert(Connection { peer: peer.address, https: peer.https });
        door.api.call(request).await
    } else {
        proxy::forward(&door.worker, peer, request).await
    };
    let response: Result<_, Refusal> = result;
    let response = response.unwrap_or_else(|refusal| refusal.response().map(Kind::Own));
    response.map(|kind| ResponseBody { kind, _serving: serving })
}
