//! A model server in the test's own process, and a client that speaks plain HTTP to it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use dure_modelserver::{Config, DEFAULT_MAX_BODY, Listen, ModelError, Server, find_library};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, sync::oneshot, task::JoinHandle};

/// ONNX Runtime's library, from DURE_TEST_ONNXRUNTIME: the library itself, or a Python environment that has the package onnxruntime.
pub fn library() -> Option<PathBuf> {
    let Some(given) = std::env::var_os("DURE_TEST_ONNXRUNTIME").filter(|given| !given.is_empty()) else {
        eprintln!("skipped: DURE_TEST_ONNXRUNTIME names no environment with onnxruntime");
        return None;
    };
    let given = PathBuf::from(given);
    if given.is_file() {
        return Some(given);
    }
    Some(find_library(&given).unwrap_or_else(|| panic!("DURE_TEST_ONNXRUNTIME={} has no onnxruntime", given.display())))
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.onnx"))
}

pub fn config(model: PathBuf, library: PathBuf, folder: &Path) -> Config {
    let listen = Listen::Unix(folder.join("model.sock"));
    Config {
        model,
        name: "flowers".to_owned(),
        version: "3".to_owned(),
        library,
        threads: 1,
        listen,
        max_body: DEFAULT_MAX_BODY,
    }
}

pub struct Running {
    pub folder: tempfile::TempDir,
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ModelError>>,
}

pub struct Answer {
    pub status: u16,
    pub kind: String,
    pub body: Value,
}

impl Running {
    /// Serves a fixture and waits until it is ready; `None` (with its reason printed) where there is no ONNX Runtime.
    pub async fn start(model: &str) -> Option<Self> {
        let running = Self::launch(fixture(model), |_| {}).await?;
        running.wait_until_ready().await;
        Some(running)
    }

    /// Serves without waiting for the model.
    pub async fn launch(model: PathBuf, change: impl FnOnce(&mut Config)) -> Option<Self> {
        let library = library()?;
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(model, library, folder.path());
        change(&mut config);
        let server = Server::bind(config).await.unwrap();
        let Listen::Unix(socket) = server.address() else { panic!("these tests use a Unix socket") };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        Some(Self { folder, socket, stop: Some(stop), task })
    }

    pub async fn wait_until_ready(&self) {
        let ready = async { while self.get("/v2/health/ready").await.status != 200 {} };
        tokio::time::timeout(Duration::from_secs(60), ready).await.expect("the model was not loaded");
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).header("host", "model").body(Full::default()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Request::post(path).header("host", "model").body(Full::new(body.into())).unwrap()).await
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let answer = read(sender.send_request(request).await.unwrap()).await;
        connection.abort();
        answer
    }

    pub async fn stop(mut self) -> Result<(), ModelError> {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap()
    }
}

async fn read(response: hyper::Response<Incoming>) -> Answer {
    let status = response.status().as_u16();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Answer {
        status,
        kind,
        body: serde_json::from_slice(&body).unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&body))),
    }
}
