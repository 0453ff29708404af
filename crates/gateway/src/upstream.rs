//! One worker's view of the replicas: connections of its own to each, how fast each answers, and
//! which are put aside because they refused a connection.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderValue;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::{
    Limits,
    balance::{self, Candidate, PeakEwma},
    body::RequestBody,
    routes::{Address, Replica, Service},
    stats,
};

const FIRST_ASIDE: Duration = Duration::from_millis(100);
const LONGEST_ASIDE: Duration = Duration::from_secs(5);

/// A replica that broke a connection counts as at least this slow, until it answers again.
const BROKEN: Duration = Duration::from_secs(1);

struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

pub(crate) struct Upstream {
    replica: Replica,
    limits: Rc<Limits>,
    /// The youngest last, and used first, so that what is not needed grows old.
    idle: RefCell<Vec<Idle>>,
    latency: Cell<PeakEwma>,
    pub in_flight: Cell<u32>,
    failures: Cell<u32>,
    aside_until: Cell<Option<Instant>>,
    /// No longer in the table: what is under way ends, nothing is kept.
    retired: Cell<bool>,
}

impl Upstream {
    fn new(replica: Replica, limits: Rc<Limits>) -> Self {
        Self {
            replica,
            limits,
            idle: RefCell::default(),
            latency: Cell::default(),
            in_flight: Cell::new(0),
            failures: Cell::new(0),
            aside_until: Cell::new(None),
            retired: Cell::new(false),
        }
    }

    pub fn take_idle(&self) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { sender, .. }) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    pub fn put_back(self: &Rc<Self>, mut sender: SendRequest<RequestBody>) {
        if sender.is_ready() {
            return self.keep(sender);
        }
        if sender.is_closed() || self.retired.get() {
            return;
        }
        // The replica answered before it had read the whole request; it may still be reading.
        let this = self.clone();
        tokio::task::spawn_local(async move {
            if let Ok(Ok(())) = timeout(this.limits.connect, sender.ready()).await {
                this.keep(sender);
            }
        });
    }

    fn keep(&self, sender: SendRequest<RequestBody>) {
        let mut idle = self.idle.borrow_mut();
        if !self.retired.get() && idle.len() < self.limits.idle_per_replica {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Closes connections that nobody used for a while, before the replica does.
    pub fn sweep(&self, now: Instant) {
        let keep = |idle: &Idle| !idle.sender.is_closed() && now.duration_since(idle.since) < self.limits.upstream_idle;
        self.idle.borrow_mut().retain(keep);
    }

    fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
    }

    pub async fn connect(&self) -> io::Result<SendRequest<RequestBody>> {
        let connecting = async {
            match &self.replica.address {
                Address::Unix(path) => handshake(UnixStream::connect(path).await?).await,
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    handshake(stream).await
                }
            }
        };
        match timeout(self.limits.connect, connecting).await {
            Ok(Ok(sender)) => {
                self.failures.set(0);
                self.aside_until.set(None);
                Ok(sender)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    pub fn put_aside(&self, now: Instant) {
        let failures = self.failures.get();
        self.failures.set(failures.saturating_add(1));
        self.aside_until.set(Some(now + aside_for(failures)));
    }

    pub fn answered(&self, latency: Duration, now: Instant) {
        let mut ewma = self.latency.get();
        ewma.observe(latency, now);
        self.latency.set(ewma);
    }

    pub fn broke(&self, now: Instant) {
        self.answered(BROKEN, now);
    }

    pub fn id(&self) -> &str {
        &self.replica.id
    }
}

fn aside_for(failures: u32) -> Duration {
    FIRST_ASIDE.saturating_mul(1 << failures.min(10)).min(LONGEST_ASIDE)
}

async fn handshake<S>(stream: S) -> io::Result<SendRequest<RequestBody>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a replica ended");
        }
    });
    Ok(sender)
}

/// A service as one worker sees it.
pub(crate) struct LocalService {
    pub route: Arc<Service>,
    upstreams: Vec<Rc<Upstream>>,
    pub cell: Arc<stats::Cell>,
    pub prefix: HeaderValue,
    pub revision: HeaderValue,
}

impl LocalService {
    pub fn new(key: &str, route: &Arc<Service>, cell: Arc<stats::Cell>, limits: &Rc<Limits>) -> Self {
        let prefix = HeaderValue::try_from(format!("/s/{key}")).unwrap_or(HeaderValue::from_static("/"));
        Self { route: route.clone(), upstreams: Vec::new(), cell, prefix, revision: HeaderValue::from_static("") }
            .with(route, limits)
    }

    /// The same service as the table has it now. Replicas that stay keep their connections and what
    /// is known of them; the others are retired.
    pub fn with(&self, route: &Arc<Service>, limits: &Rc<Limits>) -> Self {
        let mut old: HashMap<&Replica, &Rc<Upstream>> =
            self.upstreams.iter().map(|upstream| (&upstream.replica, upstream)).collect();
        let upstream = |replica: &Replica| match old.remove(replica) {
            Some(known) => known.clone(),
            None => Rc::new(Upstream::new(replica.clone(), limits.clone())),
        };
        let upstreams = route.replicas.iter().map(upstream).collect();
        old.values().for_each(|upstream| upstream.retire());
        Self {
            route: route.clone(),
            upstreams,
            cell: self.cell.clone(),
            prefix: self.prefix.clone(),
            revision: HeaderValue::from_str(&route.revision).unwrap_or(HeaderValue::from_static("")),
        }
    }

    pub fn retire(&self) {
        self.upstreams.iter().for_each(|upstream| upstream.retire());
    }

    pub fn sweep(&self, now: Instant) {
        self.upstreams.iter().for_each(|upstream| upstream.sweep(now));
    }

    pub fn is_empty(&self) -> bool {
        self.upstreams.is_empty()
    }

    /// One that was not tried yet; one that was put aside only where there is no other.
    pub fn choose(&self, tried: &[usize], random: u64, now: Instant) -> Option<(usize, &Rc<Upstream>)> {
        let candidate = |index: usize, also_aside: bool| {
            let upstream = &self.upstreams[index];
            let usable = also_aside || upstream.aside_until.get().is_none_or(|until| until <= now);
            (usable && !tried.contains(&index)).then(|| Candidate {
                latency: upstream.latency.get().estimate(now),
                in_flight: upstream.in_flight.get(),
            })
        };
        let count = self.upstreams.len();
        balance::choose(count, random, |index| candidate(index, false))
            .or_else(|| balance::choose(count, random, |index| candidate(index, true)))
            .map(|index| (index, &self.upstreams[index]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(ids: &[&str]) -> Arc<Service> {
        let replica = |id: &&str| Replica { id: (*id).to_owned(), address: Address::Unix("/nowhere".into()) };
        let replicas = ids.iter().map(replica).collect();
        Arc::new(Service { replicas, revision: "1".to_owned(), not_ready_reason: None })
    }

    #[test]
    fn a_replica_that_stays_keeps_what_is_known_of_it_and_one_that_goes_is_retired() {
        let limits = Rc::new(Limits::default());
        let before = LocalService::new("a/b", &service(&["x", "y"]), Arc::default(), &limits);
        let after = before.with(&service(&["y", "z"]), &limits);
        assert!(Rc::ptr_eq(&before.upstreams[1], &after.upstreams[0]));
        assert!(before.upstreams[0].retired.get());
        assert!(after.upstreams.iter().all(|upstream| !upstream.retired.get()));
    }

    #[test]
    fn a_replica_put_aside_is_used_again_in_time_or_in_need_but_not_twice_for_one_request() {
        let limits = Rc::new(Limits::default());
        let local = LocalService::new("a/b", &service(&["x", "y"]), Arc::default(), &limits);
        let now = Instant::now();
        local.upstreams[0].put_aside(now);
        let chosen = |tried: &[usize], now| local.choose(tried, 0, now).map(|(index, _)| index);
        assert_eq!(chosen(&[], now), Some(1));
        assert_eq!(chosen(&[1], now), Some(0));
        assert_eq!(chosen(&[1, 0], now), None);
        assert_eq!(chosen(&[], now + FIRST_ASIDE), Some(0));
        assert_eq!(aside_for(u32::MAX), LONGEST_ASIDE);
    }
}
