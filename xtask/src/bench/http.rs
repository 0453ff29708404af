//! A small client of the API: kept-alive connections and server-sent events.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::control_plane::ControlPlane;
use crate::Result;

pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    host: String,
    authorization: String,
}

impl Connection {
    pub async fn open(control_plane: &ControlPlane) -> Result<Self> {
        let stream = TcpStream::connect(&control_plane.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // A connection that breaks shows in the request that needed it.
            let _ = connection.await;
        });
        let authorization = format!("Bearer {}", control_plane.token);
        Ok(Self { sender, host: control_plane.address.clone(), authorization })
    }

    pub async fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        let response = self.request(Method::POST, path, "application/json", Bytes::from(body.to_string())).await?;
        Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
    }

    /// What comes on a stream of server-sent events, from when the server has answered.
    pub async fn events(mut self, path: &str) -> Result<Events> {
        let response = self.request(Method::GET, path, "text/event-stream", Bytes::new()).await?;
        Ok(Events { _connection: self, body: response.into_body(), buffer: Vec::new() })
    }

    async fn request(&mut self, method: Method, path: &str, accept: &str, body: Bytes) -> Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::ACCEPT, accept)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&body)).into())
    }
}

pub struct Events {
    _connection: Connection,
    body: Incoming,
    buffer: Vec<u8>,
}

pub struct ServerSent {
    pub name: String,
    pub data: String,
}

impl Events {
    /// The next one; none when the server has closed the stream.
    pub async fn next(&mut self) -> Result<Option<ServerSent>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = parse(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(event));
                }
                continue;
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => self.buffer.extend_from_slice(frame?.data_ref().map_or(&[], |data| data)),
            }
        }
    }
}

/// None for a block that is only a comment, which keeps the connection alive.
fn parse(block: &str) -> Option<ServerSent> {
    let field = |name: &str| {
        let values = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>()
    };
    let data = field("data");
    (!data.is_empty()).then(|| ServerSent {
        name: field("event").first().copied().unwrap_or("message").to_owned(),
        data: data.join("\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_events_and_data_may_have_lines() {
        assert!(parse(": still here\n\n").is_none());
        let event = parse("id: 7\nevent: log\ndata: a\ndata: b\n\n").unwrap();
        assert_eq!((event.name.as_str(), event.data.as_str()), ("log", "a\nb"));
    }
}
