//! What passes, in both directions.

use std::convert::Infallible;

use bytes::Bytes;
use dure_gateway::Limits;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Channel, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

async fn echo(request: Request<Incoming>) -> http::Response<AnyBody> {
    http::Response::new(any(request.into_body()))
}

/// Says what it was asked, line by line.
async fn mirror(request: Request<Incoming>) -> http::Response<AnyBody> {
    let (parts, body) = request.into_parts();
    let mut lines = vec![format!("{} {}", parts.method, parts.uri)];
    lines.extend(parts.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())));
    lines.sort();
    let body = body.collect().await.unwrap().to_bytes();
    lines.push(format!("body {}", String::from_utf8_lossy(&body)));
    let mut response = text(lines.join("\n"));
    let headers = response.headers_mut();
    headers.insert("connection", "x-hop".parse().unwrap());
    headers.insert("x-hop", "1".parse().unwrap());
    headers.insert("keep-alive", "timeout=5".parse().unwrap());
    headers.insert("x-own", "kept".parse().unwrap());
    response
}

#[tokio::test]
async fn the_answer_begins_while_the_request_is_still_open() {
    let replica = Server::tcp(echo).await;
    let started = start_digits(&[&replica.address]);
    let mut client = Client::new(started.address).await;

    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    sender.send_data("first".into()).await.unwrap();
    let response = client.send(request("POST", "/s/vision/digits/echo", body)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut answer = response.into_body();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    sender.send_data("second".into()).await.unwrap();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "second");
    assert_eq!(started.routes.stats()["vision/digits"].in_flight, 1);
    drop(sender);
    assert!(answer.frame().await.is_none());

    let stats = &started.routes.stats()["vision/digits"];
    assert_eq!((stats.requests, stats.by_class[1], stats.bytes_received, stats.bytes_sent), (1, 1, 11, 11));
    assert_eq!((stats.cancelled, stats.latency.count()), (0, 1));
}

#[tokio::test]
async fn the_replica_sees_the_request_without_what_is_not_its_business() {
    let folder = tempfile::tempdir().unwrap();
    let replica = Server::unix(&folder.path().join("r.sock"), mirror).await;
    let started = start_digits(&[&replica.address]);
    let mut asked = request("POST", "/s/vision/digits/v2/models?a=1&b=%2F", Full::from("{}"));
    for (name, value) in [
        ("connection", "x-secret"),
        ("x-secret", "1"),
        ("x-dure-user", "owner"),
        ("x_dure_user", "owner"),
        ("x-forwarded-for", "10.0.0.9"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "abc"),
        ("accept", "*/*"),
    ] {
        asked.headers_mut().append(name, value.parse().unwrap());
    }
    let response = Client::new(started.address).await.send(asked).await;
    let headers = response.headers().clone();
    let (status, seen) = read(response).await;
    assert_eq!(status, StatusCode::OK);
    let expected = "POST /v2/models?a=1&b=%2F\naccept: */*\ncontent-length: 2\nhost: dure.example\n\
        x-dure-user: lee\nx-forwarded-for: 10.0.0.9, 127.0.0.1\nx-forwarded-host: dure.example\n\
        x-forwarded-prefix: /s/vision/digits\nx-forwarded-proto: http\nx-request-id: abc\nbody {}";
    assert_eq!(seen, expected);
    assert_eq!(
        (&headers["x-own"], &headers["x-request-id"], &headers["x-dure-revision"]),
        (&"kept".parse().unwrap(), &"abc".parse().unwrap(), &"digits@1".parse().unwrap())
    );
    assert!(!headers.contains_key("x-hop") && !headers.contains_key("keep-alive"));
}

#[tokio::test]
async fn one_connection_serves_many_requests_on_both_sides() {
    let replica = Server::tcp(mirror).await;
    let started = start_digits(&[&replica.address]);
    let mut client = Client::new(started.address).await;
    for round in 0..20 {
        let (status, seen) = client.get(&format!("/s/vision/digits/{round}")).await;
        assert_eq!(status, StatusCode::OK);
        assert!(seen.contains(&format!("GET /{round}\n")), "{seen}");
    }
    assert_eq!(replica.connections(), 1);
}

#[tokio::test]
async fn a_head_request_tells_the_length_and_sends_no_body() {
    let replica = Server::tcp(async |_| text("0123456789")).await;
    let started = start_digits(&[&replica.address]);
    let mut client = Client::new(started.address).await;
    let response = client.send(request("HEAD", "/s/vision/digits/", Full::<Bytes>::default())).await;
    assert_eq!(response.headers()["content-length"], "10");
    assert_eq!(read(response).await.1, "");
    assert_eq!(client.get("/s/vision/digits/").await.1, "0123456789");
    assert_eq!(replica.connections(), 1);
}

#[tokio::test]
async fn a_body_of_unknown_length_passes_even_with_get() {
    let replica = Server::tcp(mirror).await;
    let started = start_digits(&[&replica.address]);
    for method in ["GET", "POST", "DELETE"] {
        let asked = format!(
            "{method} /s/vision/digits HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\
             transfer-encoding: chunked\r\ncontent-length: 3\r\nconnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        let answer = raw(started.address, &asked).await;
        assert!(answer.contains("body hello") && answer.contains("\ntransfer-encoding: chunked\n"), "{answer}");
        assert!(!answer.contains("content-length: 3"), "{answer}");
    }
}

#[tokio::test]
async fn a_caller_that_waits_for_permission_to_send_gets_it_once_the_replica_reads() {
    let replica = Server::tcp(echo).await;
    let started = start_digits(&[&replica.address]);
    let mut stream = TcpStream::connect(started.address).await.unwrap();
    let head = format!(
        "POST /s/vision/digits/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\
         expect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 100 "));
    stream.write_all(b"hello").await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    let mut body = String::new();
    stream.read_to_string(&mut body).await.unwrap();
    assert_eq!(body, "hello");

    let mut refused = TcpStream::connect(started.address).await.unwrap();
    refused.write_all(head.replace(TOKEN, "wrong").as_bytes()).await.unwrap();
    assert!(read_head(&mut refused).await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn a_websocket_is_tunnelled_and_other_protocols_are_not() {
    let replica = Server::tcp(async |mut request: Request<Incoming>| {
        if !request.headers().contains_key("upgrade") {
            return text("no upgrade");
        }
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut word = [0; 4];
            while stream.read_exact(&mut word).await.is_ok() {
                word.reverse();
                stream.write_all(&word).await.unwrap();
            }
        });
        let mut response = text("");
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", "upgrade".parse().unwrap());
        response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        response.headers_mut().insert("sec-websocket-accept", "x".parse().unwrap());
        response
    })
    .await;
    let started = start_digits(&[&replica.address]);
    let mut stream = TcpStream::connect(started.address).await.unwrap();
    let head = format!(
        "GET /s/vision/digits/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\
         connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n"
    );
    // The first words of the tunnel may come together with the head.
    stream.write_all(format!("{head}abcd").as_bytes()).await.unwrap();
    let answer = read_head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("sec-websocket-accept: x"), "{answer}");
    let mut word = [0; 4];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"dcba");
    stream.write_all(b"1234").await.unwrap();
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"4321");
    assert_eq!(started.routes.stats()["vision/digits"].in_flight, 1);
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut word).await.unwrap(), 0);

    let other = raw(started.address, &head.replace("websocket\r\n", "h2c\r\n").replace("keep-alive", "close")).await;
    assert!(other.starts_with("HTTP/1.1 200 ") && other.ends_with("no upgrade"), "{other}");
}

#[tokio::test]
async fn a_large_body_passes_whole_through_several_workers() {
    let replica = Server::tcp(echo).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let routes = dure_gateway::Routes::default();
    routes.publish(table(&[("vision/digits", service(&[&replica.address]))]));
    let config = dure_gateway::Config { listener, tls: None, workers: 3, limits: Limits::default() };
    let api = tower::service_fn(|_: Request<dure_gateway::ApiBody>| async { Ok::<_, Infallible>(text("api")) });
    let gateway = dure_gateway::Gateway::start(config, routes.clone(), api).unwrap();
    let address = gateway.address();
    let callers = (0..12u8).map(|caller| async move {
        let sent = Bytes::from((0..3_000_000u32).map(|index| (index >> 8) as u8 ^ caller).collect::<Vec<_>>());
        let mut client = Client::new(address).await;
        let response = client.send(request("POST", "/s/vision/digits/", Full::new(sent.clone()))).await;
        assert!(response.into_body().collect().await.unwrap().to_bytes() == sent);
    });
    futures_util::future::join_all(callers).await;
    let stats = &routes.stats()["vision/digits"];
    assert_eq!((stats.requests, stats.bytes_received, stats.bytes_sent), (12, 36_000_000, 36_000_000));
}
