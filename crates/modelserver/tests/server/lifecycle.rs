//! Starting, being ready, stopping, and what is said when that fails.

use std::{io::Write, os::unix::net::UnixListener, time::Duration};

use crate::common::{Running, config, fixture, library};
use dure_modelserver::{Config, Listen, ModelError, Server, serve};

#[tokio::test]
async fn it_is_live_but_not_ready_while_the_model_is_being_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("model.onnx");
    // No `mkfifo` process: between its fork and exec it would hold the sockets of the tests beside this one.
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let Some(server) = Running::launch(pipe.clone(), |_| {}).await else { return };
    assert_eq!(server.get("/v2/health/live").await.status, 200);
    assert_eq!(server.get("/v2/health/ready").await.status, 503);
    assert_eq!(server.get("/v2/models/flowers/ready").await.status, 503);
    let answer = server.post("/predict", r#"{"rows": [[1, 2, 3, 4]]}"#).await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &"E0601".into()));
    let write = tokio::task::spawn_blocking(move || {
        let model = std::fs::read(fixture("classifier")).unwrap();
        std::fs::OpenOptions::new().write(true).open(pipe).unwrap().write_all(&model).unwrap();
    });
    write.await.unwrap();
    server.wait_until_ready().await;
    assert_eq!(server.post("/predict", r#"{"rows": [[1, 2, 3, 4]]}"#).await.status, 200);
    let socket = server.folder.path().join("model.sock");
    assert!(socket.exists());
    let folder = server.folder.path().to_owned();
    server.stop().await.unwrap();
    assert!(!folder.join("model.sock").exists());
}

#[tokio::test]
async fn a_socket_left_by_a_killed_server_is_taken_over_and_one_in_use_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(fixture("classifier"), "none.so".into(), folder.path());
    drop(UnixListener::bind(folder.path().join("model.sock")).unwrap());
    let first = Server::bind(config.clone()).await.unwrap();
    let second = Server::bind(config.clone()).await.err().unwrap().to_string();
    assert!(second.contains("another server listens there"), "{second}");
    drop(first);
    std::fs::write(folder.path().join("model.sock"), "precious").unwrap();
    let third = Server::bind(config).await.err().unwrap().to_string();
    assert!(third.contains("is not a socket"), "{third}");
    assert_eq!(std::fs::read_to_string(folder.path().join("model.sock")).unwrap(), "precious");
}

/// The error that ends a server that nobody stops.
async fn end(config: Config) -> ModelError {
    let served = tokio::time::timeout(Duration::from_secs(60), serve(config, std::future::pending())).await;
    served.expect("it was served").unwrap_err()
}

#[tokio::test]
async fn what_cannot_be_loaded_ends_the_server_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let missing = config(folder.path().join("none.onnx"), "none.so".into(), folder.path());
    let error = end(missing.clone()).await;
    assert!(matches!(error, ModelError::File { .. }), "{error}");
    let pickle = folder.path().join("model.pkl");
    std::fs::write(&pickle, b"\x80\x04\x95\0\0\0\0").unwrap();
    let error = end(Config { model: pickle, ..missing.clone() }).await;
    assert!(error.to_string().contains("a Python pickle"), "{error}");
    let error = end(Config { model: fixture("classifier"), ..missing.clone() }).await;
    assert!(matches!(error, ModelError::Library { .. }) && error.to_string().contains("none.so"), "{error}");
    // Sound for the reader of signatures, unknown to ONNX Runtime.
    let Some(library) = library() else { return };
    let mut bytes = std::fs::read(fixture("regressor")).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - 15).filter(|place| &bytes[*place..place + 15] == b"LinearRegressor").collect();
    places.into_iter().for_each(|place| bytes[place] = b'X');
    let model = folder.path().join("unknown.onnx");
    std::fs::write(&model, bytes).unwrap();
    let error = end(Config { model, library, ..missing }).await;
    assert!(matches!(error, ModelError::Load(_)) && error.to_string().contains("XinearRegressor"), "{error}");
}

#[tokio::test]
async fn it_listens_on_tcp_too_and_says_which_port_it_got() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let config =
        Config { listen: "tcp:127.0.0.1:0".parse().unwrap(), ..config(fixture("regressor"), library, folder.path()) };
    let server = Server::bind(config).await.unwrap();
    let Listen::Tcp(address) = server.address() else { panic!("it listens on {}", server.address()) };
    assert_ne!(address.port(), 0);
    let client = async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = hyper::Request::get("/v2/health/live")
            .header("host", "model")
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    };
    server.serve(client).await.unwrap();
}

#[test]
fn addresses_are_read_and_wrong_ones_explained() {
    assert_eq!("unix:/run/m.sock".parse(), Ok(Listen::Unix("/run/m.sock".into())));
    assert_eq!("tcp:localhost:80".parse::<Listen>().unwrap().to_string(), "tcp:127.0.0.1:80");
    assert_eq!("tcp:[::1]:80".parse::<Listen>().unwrap().to_string(), "tcp:[::1]:80");
    for (text, said) in [
        ("/run/m.sock", "neither unix:"),
        ("unix:", "needs a path"),
        ("tcp:example.org:80", "not an IP address"),
        (&format!("unix:/{}", "x".repeat(107)), "107 bytes"),
    ] {
        let error = text.parse::<Listen>().unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}
