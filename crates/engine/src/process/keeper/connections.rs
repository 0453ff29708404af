//! Whoever is connected to a keeper: one task reads, one writes, the keeper does neither.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::protocol::{self, Hello, Message, Reply, Request};
use super::server::Input;

/// A peer that reads nothing is dropped; it can connect again and is told everything anew.
const MOST_UNREAD: usize = 64 * 1024 * 1024;

struct Connection {
    send: UnboundedSender<Bytes>,
    unread: Arc<AtomicUsize>,
    watches: bool,
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
pub struct Connections {
    open: HashMap<u64, Connection>,
    next: u64,
}

impl Connections {
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub fn accept(&mut self, stream: UnixStream, inputs: UnboundedSender<Input>, limits: &str) {
        let me = rustix::process::geteuid().as_raw();
        // The folder of the socket is private already; this holds also where it was opened up.
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == me || peer.uid() == 0) {
            return;
        }
        let (read, write) = stream.into_split();
        let (send, receive) = unbounded_channel();
        let unread = Arc::new(AtomicUsize::new(0));
        let connection = self.next;
        self.next += 1;
        let writer = tokio::spawn(write_all(write, receive, unread.clone()));
        let hello = Hello::new(limits.to_string());
        let answers = (send.clone(), unread.clone());
        let reader = tokio::spawn(async move {
            read_all(connection, read, hello, answers, &inputs).await;
            let _ = inputs.send(Input::Gone(connection));
        });
        let connection_state = Connection { send, unread, watches: false, writer, reader };
        self.open.insert(connection, connection_state);
    }

    pub fn gone(&mut self, connection: u64) {
        if let Some(gone) = self.open.remove(&connection) {
            gone.reader.abort();
        }
    }

    pub fn watch(&mut self, connection: u64) {
        if let Some(connection) = self.open.get_mut(&connection) {
            connection.watches = true;
        }
    }

    pub fn reply(&mut self, connection: u64, number: u64, reply: Reply) {
        self.send(connection, &Message::Reply { number, reply });
    }

    pub fn send<T: Serialize>(&mut self, connection: u64, message: &T) {
        if let Ok(frame) = protocol::encode(message) {
            self.send_frame(connection, frame);
        }
    }

    pub fn publish(&mut self, message: &Message) {
        let Ok(frame) = protocol::encode(message) else { return };
        let watching: Vec<u64> =
            self.open.iter().filter(|(_, connection)| connection.watches).map(|(number, _)| *number).collect();
        for connection in watching {
            self.send_frame(connection, frame.clone());
        }
    }

    fn send_frame(&mut self, connection: u64, frame: Bytes) {
        let Some(open) = self.open.get(&connection) else { return };
        let unread = open.unread.fetch_add(frame.len(), Ordering::Relaxed);
        if unread > MOST_UNREAD || open.send.send(frame).is_err() {
            open.writer.abort();
            self.gone(connection);
        }
    }

    /// Lets the last words be read.
    pub async fn close(&mut self) {
        for (_, connection) in self.open.drain() {
            connection.reader.abort();
            drop(connection.send);
            let _ = tokio::time::timeout(Duration::from_secs(2), connection.writer).await;
        }
    }
}

async fn read_all(
    connection: u64,
    read: OwnedReadHalf,
    mine: Hello,
    (answers, unread): (UnboundedSender<Bytes>, Arc<AtomicUsize>),
    inputs: &UnboundedSender<Input>,
) {
    let mut frames = protocol::frames(read);
    let first = tokio::time::timeout(Duration::from_secs(10), frames.next()).await;
    let Ok(Some(Ok(first))) = first else { return };
    let answer = match protocol::decode::<Hello>(&first) {
        Ok(peer) => match protocol::incompatible(&peer) {
            None => Message::Hello(mine),
            Some(why) => Message::Refused(why),
        },
        Err(error) => Message::Refused(format!("that was no hello: {error}")),
    };
    let refused = matches!(answer, Message::Refused(_));
    if let Ok(frame) = protocol::encode(&answer) {
        unread.fetch_add(frame.len(), Ordering::Relaxed);
        let _ = answers.send(frame);
    }
    drop(answers);
    if refused {
        return;
    }
    while let Some(Ok(frame)) = frames.next().await {
        match protocol::decode::<Request>(&frame) {
            Ok(request) => {
                if inputs.send(Input::Request(connection, request)).is_err() {
                    return;
                }
            }
            Err(error) => {
                eprintln!("a request was not understood, its connection is closed: {error}");
                return;
            }
        }
    }
}

async fn write_all(mut write: OwnedWriteHalf, mut frames: UnboundedReceiver<Bytes>, unread: Arc<AtomicUsize>) {
    let mut waiting = Vec::new();
    let mut together = Vec::new();
    while frames.recv_many(&mut waiting, 256).await > 0 {
        together.clear();
        waiting.drain(..).for_each(|frame: Bytes| together.extend_from_slice(&frame));
        let written = write.write_all(&together).await;
        unread.fetch_sub(together.len(), Ordering::Relaxed);
        if written.is_err() {
            return;
        }
    }
}
