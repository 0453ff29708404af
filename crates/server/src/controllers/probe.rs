//! Asks a replica whether it is ready, until it is.

use std::time::Duration;

use bytes::Bytes;
use dure_engine::Address;
use http_body_util::Empty;
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

const PATH: &str = "/v2/health/ready";
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns once it answers that it is ready. A server tells nobody when it begins to listen, so it is asked,
/// quickly at first.
pub async fn until_ready(address: &Address) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        if let Ok(Ok(true)) = tokio::time::timeout(PATIENCE, ask(address)).await {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn ask(address: &Address) -> Result<bool, Failure> {
    match address {
        Address::Unix(path) => ask_over(UnixStream::connect(path).await?).await,
        Address::Tcp(address) => ask_over(TcpStream::connect(address).await?).await,
    }
}

async fn ask_over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<bool, Failure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(PATH).header("host", "replica").body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await;
    connection.abort();
    Ok(answer?.status() == StatusCode::OK)
}
