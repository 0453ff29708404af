//! What a caller is told when a replica is not what it should be.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use dure_gateway::{Address, Limits, Service};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Channel, Full};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::support::*;

/// An address where nobody listens.
fn nobody(folder: &tempfile::TempDir, name: &str) -> Address {
    Address::Unix(folder.path().join(name))
}

#[tokio::test]
async fn a_service_without_a_replica_says_why() {
    let waiting = Service {
        replicas: vec![],
        revision: "1".to_owned(),
        not_ready_reason: Some("its model is loading".to_owned()),
    };
    let started = start(table(&[("vision/digits", Arc::new(waiting))]), Limits::default());
    let response = Client::new(started.address).await.send(get("/s/vision/digits/")).await;
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert!(response.headers().contains_key("retry-after"));
    let (status, body) = read(response).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem(&body).detail, "service vision/digits is not ready: its model is loading");
    assert_eq!(problem(&body).code, "E0601");
    assert_eq!(started.routes.stats()["vision/digits"].by_class, [0, 0, 0, 0, 1]);
}

#[tokio::test]
async fn another_replica_serves_while_one_refuses_connections() {
    let folder = tempfile::tempdir().unwrap();
    let alive = Server::tcp(async |request: Request<Incoming>| Response::new(any(request.into_body()))).await;
    let gone = [nobody(&folder, "a"), nobody(&folder, "b")];
    let started = start_digits(&[&gone[0], &alive.address, &gone[1]]);
    let mut client = Client::new(started.address).await;
    for round in 0..30 {
        let sent = format!("round {round}");
        let response = client.send(request("POST", "/s/vision/digits/", Full::from(sent.clone()))).await;
        assert_eq!(read(response).await, (StatusCode::OK, sent));
    }
}

#[tokio::test]
async fn requests_at_the_same_time_are_shared_between_replicas() {
    let (asked, mut asking) = tokio::sync::mpsc::channel::<(usize, tokio::sync::oneshot::Sender<()>)>(16);
    let replica = async |index: usize| {
        let asked = asked.clone();
        Server::tcp(move |_| {
            let asked = asked.clone();
            async move {
                let (go, going) = tokio::sync::oneshot::channel();
                asked.send((index, go)).await.unwrap();
                going.await.unwrap();
                text("served")
            }
        })
        .await
    };
    let replicas = [replica(0).await, replica(1).await];
    let started = start_digits(&[&replicas[0].address, &replicas[1].address]);
    let callers: Vec<_> = (0..10).map(|_| tokio::spawn(fetch(started.address, "/s/vision/digits/"))).collect();
    let mut held = Vec::new();
    while held.len() < callers.len() {
        held.push(asking.recv().await.unwrap());
    }
    assert_eq!(held.iter().filter(|(index, _)| *index == 0).count(), 5);
    held.into_iter().for_each(|(_, go)| go.send(()).unwrap());
    for caller in callers {
        assert_eq!(caller.await.unwrap().1, "served");
    }
}

#[tokio::test]
async fn when_no_replica_connects_the_caller_may_try_again() {
    let folder = tempfile::tempdir().unwrap();
    let started = start_digits(&[&nobody(&folder, "a"), &nobody(&folder, "b")]);
    let (status, body) = fetch(started.address, "/s/vision/digits/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem(&body).detail, "no replica of service vision/digits accepts connections");
}

#[tokio::test]
async fn a_replica_that_dies_in_its_answer_leaves_a_broken_body_not_a_short_one() {
    for length in [None, Some("10")] {
        let die = Arc::new(Notify::new());
        let dying = die.clone();
        let replica = Server::tcp(move |_| {
            let die = dying.clone();
            async move {
                let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
                tokio::spawn(async move {
                    sender.send_data("begin".into()).await.unwrap();
                    die.notified().await;
                    sender.abort("killed".into());
                });
                let response = Response::builder();
                let response = match length {
                    Some(length) => response.header("content-length", length),
                    None => response,
                };
                response.body(any(body)).unwrap()
            }
        })
        .await;
        let started = start_digits(&[&replica.address]);
        let response = Client::new(started.address).await.send(get("/s/vision/digits/")).await;
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "begin");
        die.notify_one();
        assert!(body.frame().await.unwrap().is_err());
    }
}

/// Answers the first request of its first connection, closes it at the second without an answer, and
/// answers every later connection.
async fn forgetful() -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let (mut first, _) = listener.accept().await.unwrap();
        read_head(&mut first).await;
        first.write_all(answer).await.unwrap();
        read_head(&mut first).await;
        drop(first);
        loop {
            let (mut next, _) = listener.accept().await.unwrap();
            read_head(&mut next).await;
            next.write_all(answer).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_pooled_connection_that_was_closed_is_replaced_only_where_twice_does_no_harm() {
    let started = start_digits(&[&forgetful().await]);
    let mut client = Client::new(started.address).await;
    assert_eq!(client.get("/s/vision/digits/").await.1, "ok");
    assert_eq!(client.get("/s/vision/digits/").await.1, "ok");

    let started = start_digits(&[&forgetful().await]);
    let mut client = Client::new(started.address).await;
    assert_eq!(client.get("/s/vision/digits/").await.1, "ok");
    let response = client.send(request("POST", "/s/vision/digits/", Full::from("pay"))).await;
    let (status, body) = read(response).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert_eq!(problem(&body).code, "E0602");
}

#[tokio::test]
async fn a_replica_that_never_answers_is_given_up() {
    let replica = Server::tcp(async |_| std::future::pending().await).await;
    let limits = Limits { response_head: Duration::from_millis(50), ..Limits::default() };
    let started = start(table(&[("vision/digits", service(&[&replica.address]))]), limits);
    let (status, body) = fetch(started.address, "/s/vision/digits/").await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(problem(&body).code, "E0603");
    // Nobody waits for it any more, and it learns so.
    replica.ended.notified().await;
}

#[tokio::test]
async fn a_replica_learns_that_its_caller_left() {
    let asked = Arc::new(Notify::new());
    let telling = asked.clone();
    let replica = Server::tcp(move |_| {
        telling.notify_one();
        std::future::pending()
    })
    .await;
    let started = start_digits(&[&replica.address]);
    let mut stream = TcpStream::connect(started.address).await.unwrap();
    let head = format!("GET /s/vision/digits/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    asked.notified().await;
    drop(stream);
    replica.ended.notified().await;
    assert_eq!(started.routes.stats()["vision/digits"].cancelled, 1);
}

#[tokio::test]
async fn a_caller_that_dawdles_over_its_head_or_between_requests_is_let_go() {
    let replica = Server::tcp(async |_| text("served")).await;
    let limits =
        Limits { header_read: Duration::from_millis(50), idle: Duration::from_millis(80), ..Limits::default() };
    let started = start(table(&[("vision/digits", service(&[&replica.address]))]), limits);
    let request = format!("GET /s/vision/digits/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    // Silent from the start; a head in part; silent after an answer; a second head in part.
    for (sent, answers) in
        [("", 0), (&request[..40], 0), (&request[..], 1), (&format!("{request}{}", &request[..9]), 1)]
    {
        let answer = raw(started.address, sent).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), answers, "{sent:?}: {answer}");
    }
}

#[tokio::test]
async fn a_replica_that_answers_before_it_was_sent_everything_is_heard() {
    let replica = Server::tcp(async |_| {
        let mut response = text("too much");
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        response
    })
    .await;
    let started = start_digits(&[&replica.address]);
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
    sender.send_data("begin".into()).await.unwrap();
    let response = Client::new(started.address).await.send(request("POST", "/s/vision/digits/", body)).await;
    assert_eq!(read(response).await, (StatusCode::PAYLOAD_TOO_LARGE, "too much".to_owned()));
    drop(sender);
    assert_eq!(fetch(started.address, "/s/vision/digits/").await.1, "too much");
}

#[tokio::test]
async fn a_caller_over_the_limit_of_connections_waits_for_its_turn() {
    let replica = Server::tcp(async |_| text("served")).await;
    let limits = Limits { connections_per_worker: 1, ..Limits::default() };
    let started = start(table(&[("vision/digits", service(&[&replica.address]))]), limits);
    let mut first = Client::new(started.address).await;
    assert_eq!(first.get("/s/vision/digits/").await.1, "served");
    let mut second = TcpStream::connect(started.address).await.unwrap();
    let head = format!(
        "GET /s/vision/digits/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
    );
    second.write_all(head.as_bytes()).await.unwrap();
    // The first connection still is the only one that is served.
    assert_eq!(first.get("/s/vision/digits/").await.1, "served");
    assert_eq!(started.routes.stats()["vision/digits"].requests, 2);
    drop(first);
    let mut answer = String::new();
    second.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("served"), "{answer}");
}
