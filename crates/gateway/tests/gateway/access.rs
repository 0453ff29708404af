//! Who is let in, and where they get.

use dure_gateway::{Caller, Limits, Projects, TokenHash};
use http::{Request, StatusCode};

use crate::support::*;

async fn with_token(address: std::net::SocketAddr, path: &str, token: Option<&str>) -> (StatusCode, String, String) {
    let mut asked = get(path);
    match token {
        Some(token) => asked.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap()),
        None => asked.headers_mut().remove("authorization"),
    };
    let response = Client::new(address).await.send(asked).await;
    let header = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    let (status, body) = read(response).await;
    (status, header.unwrap_or_default(), body)
}

#[tokio::test]
async fn without_a_known_token_nothing_is_told_about_services() {
    let replica = Server::tcp(async |_| text("served")).await;
    let started = start_digits(&[&replica.address]);
    for token in [None, Some("guess"), Some("")] {
        let known = with_token(started.address, "/s/vision/digits/", token).await;
        let unknown = with_token(started.address, "/s/vision/nothing/", token).await;
        assert_eq!(known, unknown);
        assert_eq!(known.0, StatusCode::UNAUTHORIZED);
        assert!(known.1.starts_with("Bearer"), "{}", known.1);
        assert_eq!(problem(&known.2).code, "E0501");
    }
    assert_eq!(replica.connections(), 0);
}

#[tokio::test]
async fn a_revoked_token_is_refused_from_the_next_request_on() {
    let replica = Server::tcp(async |_| text("served")).await;
    let started = start_digits(&[&replica.address]);
    let mut client = Client::new(started.address).await;
    assert_eq!(client.get("/s/vision/digits/").await, (StatusCode::OK, "served".to_owned()));
    let mut without = table(&[("vision/digits", service(&[&replica.address]))]);
    without.tokens.clear();
    started.routes.publish(without);
    assert_eq!(client.get("/s/vision/digits/").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_stranger_cannot_tell_a_foreign_service_from_none() {
    let replica = Server::tcp(async |_| text("secret")).await;
    let mut table = table(&[("speech/secret", service(&[&replica.address])), ("speech/down", service(&[]))]);
    table.tokens.insert(TokenHash::of(b"owner"), Caller::new("owner", Projects::All));
    let started = start(table, Limits::default());
    let foreign = with_token(started.address, "/s/speech/secret/x", Some(TOKEN)).await;
    assert_eq!(foreign.0, StatusCode::NOT_FOUND);
    for other in ["/s/speech/down/x", "/s/speech/none/x", "/s/nowhere/secret/x", "/s/vision/none/x", "/s/Speech/secret"]
    {
        assert_eq!(with_token(started.address, other, Some(TOKEN)).await, foreign, "{other}");
    }
    assert_eq!(replica.connections(), 0);
    assert_eq!(with_token(started.address, "/s/speech/secret/x", Some("owner")).await.2, "secret");
}

#[tokio::test]
async fn no_spelling_of_a_path_reaches_another_service() {
    let mine = Server::tcp(async |request: Request<_>| text(format!("mine {}", request.uri()))).await;
    let foreign = Server::tcp(async |_| text("foreign")).await;
    let services = [("vision/digits", service(&[&mine.address])), ("speech/secret", service(&[&foreign.address]))];
    let started = start(table(&services), Limits::default());
    for (path, status, body) in [
        ("/s/vision/digits/../../speech/secret/x", 400, ""),
        ("/s/vision/digits/%2e%2e/%2e%2e/speech/secret/x", 400, ""),
        ("/s/vision/digits/..%2f..%2fspeech%2fsecret", 400, ""),
        ("/s/vision/digits%2f..%2f..%2fspeech/secret", 404, ""),
        ("/s/vision/../speech/secret/x", 404, ""),
        ("/s/vision/%2e%2e/speech/secret/x", 404, ""),
        ("/s/%73peech/secret/x", 404, ""),
        ("/s//speech/secret/x", 404, ""),
        ("/s/speech/secret", 404, ""),
        ("//s/speech/secret/x", 200, "the API at //s/speech/secret/x"),
        ("/%73/speech/secret/x", 200, "the API at /%73/speech/secret/x"),
        ("/x/../s/speech/secret/x", 200, "the API at /x/../s/speech/secret/x"),
        ("http://dure.example/s/speech/secret/x", 404, ""),
        ("http://dure.example/s/vision/digits/x?y", 200, "mine /x?y"),
        ("/s/vision/digits//s/speech/secret", 200, "mine //s/speech/secret"),
        ("/s/vision/digits/%252e%252e/x", 200, "mine /%252e%252e/x"),
        ("/s/vision/digits?/../speech/secret", 200, "mine /?/../speech/secret"),
    ] {
        let asked =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
        let answer = raw(started.address, &asked).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(body), "{path}: {answer}");
    }
    let connect = format!(
        "CONNECT /s/vision/digits HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
    );
    assert!(raw(started.address, &connect).await.starts_with("HTTP/1.1 400 "));
    assert_eq!(foreign.connections(), 0);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let replica = Server::tcp(async |_| text("served")).await;
    let started = start_digits(&[&replica.address]);
    for (size, status) in [(60 << 10, "200"), (70 << 10, "431"), (1 << 20, "431")] {
        let padding = "x".repeat(size);
        let head = format!(
            "GET /s/vision/digits/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nx-pad: {padding}\r\nconnection: close\r\n\r\n"
        );
        let mut stream = tokio::net::TcpStream::connect(started.address).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        // The gateway may answer, and close, before it was sent everything.
        let sent = tokio::io::AsyncWriteExt::write_all(&mut writing, head.as_bytes());
        let (_, answer) = tokio::join!(sent, read_head(&mut reading));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{size}: {answer}");
    }
}
