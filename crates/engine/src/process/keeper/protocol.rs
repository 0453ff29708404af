//! What is said between an engine and a keeper: frames of a length (u32, big endian) and JSON.
//!
//! Each side's first frame is a hello; versions that do not fit are refused there, in words.
//! Requests carry a number and may be sent without waiting; replies name it, in any order.
//! Over a Unix socket today; nothing here depends on that.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use crate::unit::{UnitEvent, UnitId, UnitStatus};

/// Raised when an older peer would misunderstand. Keepers outlive control planes, so an update
/// meets an older keeper as a matter of course.
pub const VERSION: u32 = 1;

/// Room for the largest environment that Linux takes, with quoting.
const LARGEST_FRAME: usize = 16 * 1024 * 1024;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    /// Dure's own version, to be shown.
    pub dure: String,
    pub pid: u32,
    /// How this keeper enforces limits; empty from an engine.
    #[serde(default)]
    pub limits: String,
}

impl Hello {
    pub fn new(limits: String) -> Hello {
        Hello { protocol: VERSION, dure: env!("CARGO_PKG_VERSION").into(), pid: std::process::id(), limits }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub number: u64,
    pub ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Every unit as a `Known`, then the reply, then events as they come.
    Watch,
    Start(Box<Launch>),
    Stop(UnitId),
    /// Kills and forgets; replied to when both are done.
    Remove(UnitId),
    /// Stops every unit, replies with those that it stopped, and ends the keeper.
    Shutdown,
}

/// A unit as the keeper needs it; its folder is staged already.
#[derive(Debug, Serialize, Deserialize)]
pub struct Launch {
    pub id: UnitId,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cpu_milli: u64,
    pub memory_bytes: u64,
    pub timeout_micros: Option<u64>,
    pub grace_micros: u64,
    /// Where it listens, if it does; deleted with its end.
    pub socket: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    Hello(Hello),
    /// Instead of a hello; the connection ends after it.
    Refused(String),
    Known(Known),
    Event(UnitEvent),
    Reply {
        number: u64,
        reply: Reply,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Known {
    pub status: UnitStatus,
    pub socket: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    Stopped(Vec<UnitId>),
    NoSuchUnit,
    /// It may work another time: the machine lacked something.
    Failed(String),
}

pub fn encode<T: Serialize>(message: &T) -> io::Result<Bytes> {
    let mut frame = BytesMut::with_capacity(512);
    frame.put_u32(0);
    let mut writer = frame.writer();
    serde_json::to_writer(&mut writer, message)?;
    let mut frame = writer.into_inner();
    let length = frame.len() - 4;
    if length > LARGEST_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too large for one frame"));
    }
    frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(frame.freeze())
}

pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    serde_json::from_slice(frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

pub fn frames<R: AsyncRead>(reader: R) -> FramedRead<R, LengthDelimitedCodec> {
    let codec = LengthDelimitedCodec::builder().max_frame_length(LARGEST_FRAME).new_codec();
    FramedRead::new(reader, codec)
}

/// Why a peer that speaks another version is sent away, and what to do about it.
pub fn incompatible(peer: &Hello) -> Option<String> {
    (peer.protocol != VERSION).then(|| {
        format!(
            "protocol {} of Dure {} does not fit protocol {VERSION} of Dure {}",
            peer.protocol,
            peer.dure,
            env!("CARGO_PKG_VERSION"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    #[tokio::test]
    async fn frames_come_back_as_they_were_and_a_huge_one_is_refused() {
        let sent = Request { number: 7, ask: Ask::Stop(UnitId::new("a-1-0").unwrap()) };
        let bytes = encode(&sent).unwrap();
        let mut reader = frames(&bytes[..]);
        let frame = reader.next().await.unwrap().unwrap();
        let got: Request = decode(&frame).unwrap();
        assert_eq!(got.number, 7);
        assert!(reader.next().await.is_none());

        let mut reader = frames(&[0xff, 0xff, 0xff, 0xff, b'x'][..]);
        assert!(reader.next().await.unwrap().is_err());
    }
}
