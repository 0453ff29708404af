//! A request's way to a replica and back: who asks, which service, which replica, one more try where
//! that is safe.

use std::{
    cell::Cell,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, uri::PathAndQuery};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1::SendRequest,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;

use crate::{
    body::{Flight, Kind, ReplicaBody, RequestBody},
    headers::{self, Forwarded},
    path::{self, ServicePath, Target},
    problem::Refusal,
    routes::TokenHash,
    upstream::{LocalService, Upstream},
    worker::Worker,
};

/// So many replicas are asked for a connection before a request is given up.
const MOST_TRIES: usize = 8;

/// Who is at the other end.
pub(crate) struct Peer {
    pub address: SocketAddr,
    /// Its address as `X-Forwarded-For` says it.
    pub header: HeaderValue,
    pub https: bool,
}

type Answer = (Response<Incoming>, SendRequest<RequestBody>, Rc<Upstream>);

pub(crate) async fn forward(
    worker: &Rc<Worker>,
    peer: &Peer,
    mut request: Request<Incoming>,
) -> Result<Response<Kind>, Refusal> {
    let token = headers::bearer(request.headers()).ok_or(Refusal::NoToken)?;
    let token = TokenHash::of(token);
    let (service, user, path) = worker.admit(&token, |caller, lookup| {
        let caller = caller.ok_or(Refusal::UnknownToken)?;
        let path = match path::parse(request.uri().path()) {
            Target::Service(path) if caller.reaches(path.project) => path,
            Target::Climbing => return Err(Refusal::Climbing),
            _ => return Err(Refusal::UnknownService),
        };
        let service = lookup(path.key).ok_or(Refusal::UnknownService)?;
        let below = path_below(request.uri(), &path).ok_or(Refusal::UnknownService)?;
        Ok((service, caller.header().clone(), below))
    })?;

    if *request.method() == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    let mut flight = Flight::begin(service.cell.clone());
    let websocket = *request.method() == Method::GET && headers::asks_for_websocket(request.headers());
    let caller_side = websocket.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, incoming) = request.into_parts();
    let request_id = headers::request_id(&parts.headers, || worker.random());
    let forwarded = Forwarded {
        user: &user,
        prefix: &service.prefix,
        peer: &peer.header,
        proto: HeaderValue::from_static(if peer.https { "https" } else { "http" }),
        request_id: request_id.clone(),
        authority: parts.uri.authority(),
        websocket,
        chunked: !incoming.is_end_stream() && incoming.size_hint().exact().is_none(),
    };
    headers::prepare_request(&mut parts.headers, forwarded);
    parts.uri = Uri::from(path);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let progress = Rc::new(Cell::new(Instant::now()));
    let body = RequestBody { incoming: Some(incoming), cell: service.cell.clone(), progress: progress.clone() };

    let answer = send(worker, &service, Request::from_parts(parts, body), &mut flight, &progress).await;
    let (mut response, sender, upstream) = answer.inspect_err(|refusal| flight.answer(refusal.status()))?;
    let status = response.status();
    let upgraded = status == StatusCode::SWITCHING_PROTOCOLS;
    let replica_side = upgraded.then(|| hyper::upgrade::on(&mut response));
    let (mut parts, incoming) = response.into_parts();
    headers::prepare_response(&mut parts.headers, service.revision.clone(), request_id, upgraded);
    // The caller's own version is what hyper makes of it.
    parts.version = Version::HTTP_11;
    if let Some(replica_side) = replica_side {
        let Some(caller_side) = caller_side else {
            upstream.broke(Instant::now());
            let refusal = Refusal::Died { service: key(&service) };
            flight.answer(refusal.status());
            return Err(refusal);
        };
        flight.answer(status.as_u16());
        tokio::task::spawn_local(tunnel(caller_side, replica_side, sender, flight));
        return Ok(Response::from_parts(parts, Kind::Own(Default::default())));
    }
    flight.answer(status.as_u16());
    Ok(Response::from_parts(parts, Kind::Replica(ReplicaBody::new(incoming, sender, upstream, flight))))
}

fn path_below(uri: &Uri, path: &ServicePath<'_>) -> Option<PathAndQuery> {
    let whole = uri.path_and_query()?.as_str();
    PathAndQuery::try_from(path::below_prefix(whole, path.prefix).as_ref()).ok()
}

/// `PROJECT/SERVICE`, for what people read.
fn key(service: &LocalService) -> String {
    service.prefix.to_str().unwrap_or_default().trim_start_matches("/s/").to_owned()
}

async fn send(
    worker: &Rc<Worker>,
    service: &LocalService,
    mut request: Request<RequestBody>,
    flight: &mut Flight,
    progress: &Cell<Instant>,
) -> Result<Answer, Refusal> {
    if service.is_empty() {
        return Err(Refusal::NotReady { service: key(service), reason: service.route.not_ready_reason.clone() });
    }
    let mut tried = Vec::new();
    loop {
        let begun = Instant::now();
        let chosen = service.choose(&tried, worker.random(), begun).filter(|_| tried.len() < MOST_TRIES);
        let Some((index, upstream)) = chosen else {
            return Err(Refusal::NoneConnects { service: key(service) });
        };
        flight.assign(upstream.clone());
        let lost = match exchange(upstream, request, progress, worker.limits.response_head).await {
            Ok((response, sender)) => {
                // From the last part of the request on: how fast the caller uploads is not the replica's doing.
                let now = Instant::now();
                let latency = now.duration_since(progress.get().max(begun));
                upstream.answered(latency, now);
                service.cell.latency(latency);
                return Ok((response, sender, upstream.clone()));
            }
            Err(lost) => lost,
        };
        match lost {
            Lost::Unsent(back) => {
                tracing::debug!(service = key(service), replica = upstream.id(), "a replica refused a connection");
                upstream.put_aside(Instant::now());
                tried.push(index);
                request = *back;
            }
            Lost::Died => {
                upstream.broke(Instant::now());
                return Err(Refusal::Died { service: key(service) });
            }
            Lost::Silent => {
                let seconds = worker.limits.response_head.as_secs();
                upstream.answered(worker.limits.response_head, Instant::now());
                return Err(Refusal::TimedOut { service: key(service), seconds });
            }
        }
    }
}

enum Lost {
    /// Nothing of it reached a replica.
    Unsent(Box<Request<RequestBody>>),
    Died,
    Silent,
}

/// Over a pooled connection where there is one; once more over a fresh one, where that connection had
/// been closed and a second time does no harm.
async fn exchange(
    upstream: &Upstream,
    mut request: Request<RequestBody>,
    progress: &Cell<Instant>,
    bound: Duration,
) -> Result<(Response<Incoming>, SendRequest<RequestBody>), Lost> {
    let mut pooled = upstream.take_idle();
    loop {
        let was_pooled = pooled.is_some();
        let mut sender = match pooled.take() {
            Some(sender) => sender,
            None => match upstream.connect().await {
                Ok(sender) => sender,
                Err(_) => return Err(Lost::Unsent(Box::new(request))),
            },
        };
        let copy = if was_pooled { repeatable(&request) } else { None };
        let Some(sent) = in_time(sender.try_send_request(request), progress, bound).await else {
            return Err(Lost::Silent);
        };
        match sent {
            Ok(response) => return Ok((response, sender)),
            Err(mut error) => match error.take_message().or(copy) {
                Some(back) if was_pooled => request = back,
                Some(back) => return Err(Lost::Unsent(Box::new(back))),
                None => return Err(Lost::Died),
            },
        }
    }
}

/// A copy of a request that may reach a replica twice: without a body, and of a method that does the
/// same the second time.
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !request.method().is_idempotent() || !request.body().is_end_stream() {
        return None;
    }
    let body =
        RequestBody { incoming: None, cell: request.body().cell.clone(), progress: request.body().progress.clone() };
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Nothing when the replica neither took a part of the request nor began to answer for `bound`.
async fn in_time<F: Future>(sending: F, progress: &Cell<Instant>, bound: Duration) -> Option<F::Output> {
    let begun = Instant::now();
    let mut sending = pin!(sending);
    let mut timer = pin!(tokio::time::sleep(bound));
    loop {
        tokio::select! {
            biased;
            sent = &mut sending => return Some(sent),
            () = &mut timer => {
                let due = progress.get().max(begun) + bound;
                if due <= Instant::now() {
                    return None;
                }
                timer.as_mut().reset(due.into());
            }
        }
    }
}

async fn tunnel(caller: OnUpgrade, replica: OnUpgrade, sender: SendRequest<RequestBody>, flight: Flight) {
    let (caller, replica) = match tokio::try_join!(caller, replica) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "an upgrade was not carried through"),
    };
    drop(sender);
    let (mut caller, mut replica) = (TokioIo::new(caller), TokioIo::new(replica));
    // An end of either side by reset is how tunnels often end; there is nobody to tell.
    if let Ok((received, sent)) = tokio::io::copy_bidirectional(&mut caller, &mut replica).await {
        flight.tunnelled(received, sent);
    }
}
