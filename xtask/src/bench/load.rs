//! Load on one URL: the same request again and again on kept-alive connections, each waiting for its answer before it
//! asks again. Written on bare sockets, so that it costs less than what it measures.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::runtime;
use crate::Result;

/// What is asked, of whom.
#[derive(Clone)]
pub struct Target {
    /// `127.0.0.1:PORT`
    pub address: String,
    pub path: String,
    pub token: Option<String>,
    pub body: String,
}

impl Target {
    fn request(&self) -> Vec<u8> {
        let authorization =
            self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
            self.path,
            self.address,
            self.body.len(),
            self.body
        )
        .into_bytes()
    }
}

/// The first two cores that this process may use.
pub fn two_cores() -> Result<(usize, usize)> {
    let allowed = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    match (cores.next(), cores.next()) {
        (Some(first), Some(second)) => Ok((first, second)),
        _ => Err("it takes two cores: one for the server, one for the load".into()),
    }
}

/// One request, and the body of its answer.
pub fn once(target: &Target) -> Result<String> {
    runtime()?.block_on(async {
        let mut answers = Answers::connect(target).await?;
        answers.ask(&target.request()).await?;
        Ok(String::from_utf8_lossy(&answers.last).into_owned())
    })
}

/// How many requests were answered in that time, from a core of its own.
pub fn run(target: &Target, connections: usize, seconds: u64, core: usize) -> Result<u64> {
    let target = target.clone();
    let load = thread::spawn(move || {
        let mut only = CpuSet::new();
        only.set(core);
        sched_setaffinity(None, &only)?;
        runtime()?.block_on(async {
            let request = target.request();
            let mut asking = JoinSet::new();
            let mut connected = Vec::new();
            for _ in 0..connections {
                connected.push(Answers::connect(&target).await?);
            }
            let end = Instant::now() + Duration::from_secs(seconds);
            for mut answers in connected {
                let request = request.clone();
                asking.spawn(async move {
                    let mut count = 0;
                    while Instant::now() < end {
                        answers.ask(&request).await?;
                        count += 1;
                    }
                    Ok::<u64, Box<dyn std::error::Error + Send + Sync>>(count)
                });
            }
            let mut total = 0;
            while let Some(count) = asking.join_next().await {
                total += count??;
            }
            Ok(total)
        })
    });
    load.join().map_err(|_| "the load generator failed")?
}

/// One connection and the body of its last answer.
struct Answers {
    stream: TcpStream,
    buffer: Vec<u8>,
    last: Vec<u8>,
}

impl Answers {
    async fn connect(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 << 10), last: Vec::new() })
    }

    async fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if let Some(body) = complete(&self.buffer)? {
                self.last.clear();
                self.last.extend_from_slice(body);
                return Ok(());
            }
        }
    }
}

/// The body once all of it is there. Only answers that succeeded count.
fn complete(buffer: &[u8]) -> Result<Option<&[u8]>> {
    let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = (&buffer[..end], &buffer[end + 4..]);
    let head = std::str::from_utf8(head)?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(format!("{head}\n{}", String::from_utf8_lossy(body)).into());
    }
    for line in head.lines().skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            return Ok((body.len() >= value.trim().parse()?).then_some(body));
        }
    }
    // In chunks.
    Ok(body.ends_with(b"0\r\n\r\n").then_some(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_when_its_body_is() {
        assert!(complete(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n").unwrap().is_none());
        assert!(complete(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{").unwrap().is_none());
        assert_eq!(complete(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap(), Some(&b"{}"[..]));
        assert!(complete(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n").unwrap().is_none());
        assert!(
            complete(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n").unwrap().is_some()
        );
    }

    #[test]
    fn a_refusal_is_no_answer() {
        assert!(complete(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").is_err());
    }
}
