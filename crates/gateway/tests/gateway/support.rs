//! A gateway, the replicas behind it and a caller in front of it.

use std::{
    collections::HashSet,
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use dure_gateway::{
    Address, ApiBody, Caller, Config, Gateway, Limits, Projects, Replica, Routes, Service, Table, TokenHash,
};
use dure_types::Name;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1::SendRequest,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener},
    sync::Notify,
    task::JoinSet,
};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type AnyBody = UnsyncBoxBody<Bytes, BoxError>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Response<AnyBody>> + Send>> + Send + Sync>;

pub const TOKEN: &str = "the-token-of-lee";

pub fn any<B>(body: B) -> AnyBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

pub fn text(text: impl Into<Bytes>) -> Response<AnyBody> {
    Response::new(any(Full::new(text.into())))
}

/// A real HTTP server that counts the connections made to it and tells when one ends.
pub struct Server {
    pub address: Address,
    pub connections: Arc<AtomicUsize>,
    pub ended: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub async fn tcp<F, R>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<AnyBody>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let accepted = stream::unfold(listener, async |listener| {
            let (stream, _) = listener.accept().await.unwrap();
            Some((stream, listener))
        });
        Self::run(address, handler, accepted)
    }

    pub async fn unix<F, R>(path: &Path, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<AnyBody>> + Send + 'static,
    {
        let listener = UnixListener::bind(path).unwrap();
        let accepted = stream::unfold(listener, async |listener| {
            let (stream, _) = listener.accept().await.unwrap();
            Some((stream, listener))
        });
        Self::run(Address::Unix(path.to_owned()), handler, accepted)
    }

    fn run<F, R, A, S>(address: Address, handler: F, accepted: A) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<AnyBody>> + Send + 'static,
        A: Stream<Item = S> + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        let connections = Arc::new(AtomicUsize::new(0));
        let ended = Arc::new(Notify::new());
        let (count, tell) = (connections.clone(), ended.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            let mut accepted = pin!(accepted);
            while let Some(stream) = accepted.next().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (handler, tell) = (handler.clone(), tell.clone());
                open.spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = handler(request);
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    let _ = connection.await;
                    tell.notify_one();
                });
            }
        });
        Self { address, connections, ended, _tasks: tasks }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

pub fn service(addresses: &[&Address]) -> Arc<Service> {
    let replica = |(index, address): (usize, &&Address)| Replica { id: index.to_string(), address: (*address).clone() };
    Arc::new(Service {
        replicas: addresses.iter().enumerate().map(replica).collect(),
        revision: "digits@1".to_owned(),
        not_ready_reason: None,
    })
}

/// Lee, who is in project `vision` only, and the services given by `PROJECT/SERVICE`.
pub fn table(services: &[(&str, Arc<Service>)]) -> Table {
    let mut table = Table::default();
    let projects = Projects::Only(HashSet::from(["vision".to_owned()]));
    table.tokens.insert(TokenHash::of(TOKEN.as_bytes()), Caller::new("lee", projects));
    for (key, service) in services {
        let (project, name) = key.split_once('/').unwrap();
        table.insert(&Name::new(project).unwrap(), &Name::new(name).unwrap(), service.clone());
    }
    table
}

pub struct Started {
    pub gateway: Gateway,
    pub routes: Routes,
    pub address: SocketAddr,
}

/// One worker, so that what is pooled is known.
pub fn start(table: Table, limits: Limits) -> Started {
    let api = tower::service_fn(|request: Request<ApiBody>| async move {
        Ok::<_, Infallible>(text(format!("the API at {}", request.uri().path())))
    });
    start_with(table, limits, api)
}

pub fn start_with<A, B>(table: Table, limits: Limits, api: A) -> Started
where
    A: tower::Service<Request<ApiBody>, Response = Response<B>> + Clone + Send + 'static,
    A::Future: Send,
    A::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let routes = Routes::default();
    routes.publish(table);
    let config = Config { listener, tls: None, workers: 1, limits };
    let gateway = Gateway::start(config, routes.clone(), api).unwrap();
    Started { address: gateway.address(), gateway, routes }
}

/// A gateway with the one service `vision/digits` on the given replicas.
pub fn start_digits(addresses: &[&Address]) -> Started {
    start(table(&[("vision/digits", service(addresses))]), Limits::default())
}

/// A caller's connection.
pub struct Client(SendRequest<AnyBody>);

impl Client {
    pub async fn new(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Self {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Self(sender)
    }

    pub async fn send(&mut self, request: Request<AnyBody>) -> Response<Incoming> {
        self.0.ready().await.unwrap();
        self.0.send_request(request).await.unwrap()
    }

    pub async fn get(&mut self, path: &str) -> (StatusCode, String) {
        read(self.send(get(path)).await).await
    }
}

pub fn get(path: &str) -> Request<AnyBody> {
    request("GET", path, http_body_util::Empty::<Bytes>::new())
}

/// A request with Lee's token.
pub fn request<B>(method: &str, path: &str, body: B) -> Request<AnyBody>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let authorization = format!("Bearer {TOKEN}");
    let request = Request::builder().method(method).uri(path);
    request.header("host", "dure.example").header("authorization", authorization).body(any(body)).unwrap()
}

pub async fn read(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// One request to a fresh connection.
pub async fn fetch(address: SocketAddr, path: &str) -> (StatusCode, String) {
    Client::new(address).await.get(path).await
}

/// Bytes as they stand, and everything that comes back until the gateway closes.
pub async fn raw(address: SocketAddr, sent: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads a head to its empty line.
pub async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

pub fn problem(body: &str) -> dure_types::Problem {
    serde_json::from_str(body).unwrap()
}
