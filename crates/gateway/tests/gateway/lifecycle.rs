//! The API beside the services, changes of the table, TLS and the end.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use dure_gateway::{ApiBody, Config, Connection, Gateway, Limits, Routes};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Channel};
use hyper::body::Incoming;
use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc, oneshot},
};

use crate::support::*;

#[tokio::test]
async fn the_api_streams_events_and_knows_its_caller() {
    let (events, receiver) = mpsc::channel::<&'static str>(1);
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let api = tower::service_fn(move |request: Request<ApiBody>| {
        let receiver = receiver.lock().unwrap().take();
        async move {
            let connection = *request.extensions().get::<Connection>().unwrap();
            assert!(connection.peer.ip().is_loopback() && !connection.https);
            let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
            tokio::spawn(async move {
                let mut receiver = receiver.unwrap();
                while let Some(event) = receiver.recv().await {
                    sender.send_data(format!("data: {event}\n\n").into()).await.unwrap();
                }
            });
            Ok::<_, Infallible>(Response::builder().header("content-type", "text/event-stream").body(body).unwrap())
        }
    });
    let started = start_with(table(&[]), Limits::default(), api);
    let response = Client::new(started.address).await.send(get("/api/v1/events")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    for event in ["one", "two"] {
        events.send(event).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, format!("data: {event}\n\n"));
    }
    drop(events);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn an_api_handler_is_ended_when_its_caller_leaves_and_a_panic_is_told() {
    let (began, mut begun) = mpsc::channel::<oneshot::Receiver<()>>(1);
    let api = tower::service_fn(move |request: Request<ApiBody>| {
        let began = began.clone();
        async move {
            assert!(request.uri().path() != "/panic", "meant");
            let (held, ended) = oneshot::channel::<()>();
            began.send(ended).await.unwrap();
            std::future::pending::<()>().await;
            drop(held);
            Ok::<_, Infallible>(text(""))
        }
    });
    let started = start_with(table(&[]), Limits::default(), api);
    let (status, body) = fetch(started.address, "/panic").await;
    assert_eq!((status, problem(&body).code.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "E0901"));

    let address = started.address;
    let caller = tokio::spawn(async move { fetch(address, "/wait").await });
    let ended = begun.recv().await.unwrap();
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert!(ended.await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_does_not_hold_up_a_service() {
    let replica = Server::tcp(async |_| text("served")).await;
    let (entered, entering) = std::sync::mpsc::channel::<()>();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let api = tower::service_fn(move |_: Request<ApiBody>| {
        let (entered, released) = (entered.clone(), released.clone());
        async move {
            entered.send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
            Ok::<_, Infallible>(text("at last"))
        }
    });
    let started = start_with(table(&[("vision/digits", service(&[&replica.address]))]), Limits::default(), api);
    let address = started.address;
    let slow = tokio::spawn(async move { fetch(address, "/slow").await });
    tokio::task::spawn_blocking(move || entering.recv().unwrap()).await.unwrap();
    assert_eq!(fetch(address, "/s/vision/digits/").await.1, "served");
    release.send(()).unwrap();
    assert_eq!(slow.await.unwrap().1, "at last");
}

/// Answers when told, and says when it was asked.
async fn held() -> (Server, Arc<Notify>, Arc<Notify>) {
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (asked.clone(), go.clone());
    let server = Server::tcp(move |_: Request<Incoming>| {
        let (tell, wait) = (tell.clone(), wait.clone());
        async move {
            tell.notify_one();
            wait.notified().await;
            text("in the end")
        }
    })
    .await;
    (server, asked, go)
}

#[tokio::test]
async fn a_removed_replica_ends_what_it_began_and_is_left_alone_then() {
    let (old, asked, go) = held().await;
    let new = Server::tcp(async |_| text("new")).await;
    let started = start_digits(&[&old.address]);
    let address = started.address;
    let caller = tokio::spawn(async move { fetch(address, "/s/vision/digits/").await });
    asked.notified().await;
    started.routes.publish(table(&[("vision/digits", service(&[&new.address]))]));
    assert_eq!(fetch(address, "/s/vision/digits/").await.1, "new");
    go.notify_one();
    assert_eq!(caller.await.unwrap().1, "in the end");
    old.ended.notified().await;

    // The other one's connection lies idle: it is closed without a further request.
    started.routes.publish(table(&[]));
    new.ended.notified().await;
    assert_eq!((old.connections(), new.connections()), (1, 1));
    assert_eq!(fetch(address, "/s/vision/digits/").await.0, StatusCode::NOT_FOUND);
    assert_eq!(started.routes.stats()["vision/digits"].requests, 2);
}

#[tokio::test]
async fn idle_connections_to_a_replica_are_dropped() {
    let replica = Server::tcp(async |_| text("served")).await;
    let limits = Limits { upstream_idle: Duration::from_millis(20), ..Limits::default() };
    let started = start(table(&[("vision/digits", service(&[&replica.address]))]), limits);
    assert_eq!(fetch(started.address, "/s/vision/digits/").await.1, "served");
    replica.ended.notified().await;
    assert_eq!(fetch(started.address, "/s/vision/digits/").await.1, "served");
}

#[tokio::test]
async fn the_end_waits_for_what_is_under_way_and_takes_nothing_new() {
    let (replica, asked, go) = held().await;
    let Started { gateway, address, .. } = start_digits(&[&replica.address]);
    let mut idle = Client::new(address).await;
    assert_eq!(idle.get("/api").await.0, StatusCode::OK);
    let caller = tokio::spawn(async move { fetch(address, "/s/vision/digits/").await });
    asked.notified().await;
    let ending = tokio::spawn(gateway.shutdown(Duration::from_secs(60)));
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    assert_eq!(caller.await.unwrap(), (StatusCode::OK, "in the end".to_owned()));
    assert_eq!(ending.await.unwrap(), 0);
}

#[tokio::test]
async fn what_outlasts_the_grace_is_cut_and_counted() {
    let (replica, asked, _go) = held().await;
    let Started { gateway, address, .. } = start_digits(&[&replica.address]);
    let caller = tokio::spawn(async move { Client::new(address).await.get("/s/vision/digits/").await });
    asked.notified().await;
    assert_eq!(gateway.shutdown(Duration::ZERO).await, 1);
    assert!(caller.await.is_err());
}

#[tokio::test]
async fn over_tls_the_replica_learns_that_the_caller_came_by_https() {
    let replica = Server::tcp(async |request: Request<Incoming>| {
        text(request.headers()["x-forwarded-proto"].as_bytes().to_vec())
    })
    .await;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let routes = Routes::default();
    routes.publish(table(&[("vision/digits", service(&[&replica.address]))]));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config { listener, tls: Some(Arc::new(server)), workers: 1, limits: Limits::default() };
    let api = tower::service_fn(|_: Request<ApiBody>| async { Ok::<_, Infallible>(text("the API")) });
    let gateway = Gateway::start(config, routes, api).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let mut client = Client::over(stream).await;
    assert_eq!(client.get("/s/vision/digits/").await, (StatusCode::OK, "https".to_owned()));
    assert_eq!(client.get("/").await.1, "the API");
    drop(client);
    assert_eq!(gateway.shutdown(Duration::from_secs(60)).await, 0);
}

#[test]
fn outside_a_runtime_it_says_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config { listener, tls: None, workers: 1, limits: Limits::default() };
    let api = tower::service_fn(|_: Request<ApiBody>| async { Ok::<_, Infallible>(text("")) });
    assert!(matches!(Gateway::start(config, Routes::default(), api), Err(dure_gateway::Error::NoRuntime)));
}
