//! The way to the keeper: starts it if there is none, connects, and does both again when it
//! breaks. Everything asked is idempotent, so what was asked meanwhile is simply asked again.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::keeper::protocol::{self, Ask, Hello, Message, Reply, Request};
use super::keeper::{self, now_micros};
use super::places::State;
use super::view::View;
use crate::error::EngineError;

/// For a keeper's start and for its hello, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between tries while another keeper is coming or going.
const BUSY: Duration = Duration::from_millis(50);
const WORST_BACKOFF: Duration = Duration::from_secs(5);
const TRIES: u32 = 5;
const LARGEST_LOG: u64 = 1024 * 1024;

type Frames = FramedRead<OwnedReadHalf, LengthDelimitedCodec>;

#[derive(Debug, Clone)]
pub struct Settings {
    pub state: State,
    pub socket: PathBuf,
    pub command: Vec<OsString>,
    pub idle: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Condition {
    Away,
    Up(Hello),
    Closed,
}

struct Shared {
    settings: Settings,
    view: Arc<View>,
    condition: watch::Sender<Condition>,
    last_error: Mutex<Option<String>>,
    requests: Mutex<Requests>,
    next: AtomicU64,
}

#[derive(Default)]
struct Requests {
    out: Option<UnboundedSender<Bytes>>,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
}

pub struct Link {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Connected, and told of every unit, when it returns.
    pub async fn open(settings: Settings, view: Arc<View>) -> Result<Link, EngineError> {
        let shared = Arc::new(Shared {
            settings,
            view,
            condition: watch::Sender::new(Condition::Away),
            last_error: Mutex::default(),
            requests: Mutex::default(),
            next: AtomicU64::new(1),
        });
        let (connection, hello) = connect_or_start(&shared.settings).await?;
        let mut condition = shared.condition.subscribe();
        let task = tokio::spawn(keep_open(shared.clone(), connection, hello));
        let link = Link { shared, task };
        let up = condition.wait_for(|now| matches!(now, Condition::Up(_)));
        match tokio::time::timeout(PATIENCE, up).await {
            Ok(Ok(_)) => Ok(link),
            _ => Err(EngineError::KeeperAway),
        }
    }

    /// Of the keeper that is there now, or was last.
    pub async fn hello(&self) -> Result<Hello, EngineError> {
        let mut condition = self.shared.condition.subscribe();
        let known = condition.wait_for(|now| !matches!(now, Condition::Away));
        match tokio::time::timeout(PATIENCE, known).await {
            Ok(Ok(now)) => match &*now {
                Condition::Up(hello) => Ok(hello.clone()),
                _ => Err(EngineError::ShutDown),
            },
            _ => Err(self.away()),
        }
    }

    fn away(&self) -> EngineError {
        match lock(&self.shared.last_error).clone() {
            Some(message) => EngineError::KeeperStart(message),
            None => EngineError::KeeperAway,
        }
    }

    /// Asks, and asks again if the keeper goes away before it answers.
    pub async fn call(&self, ask: Ask) -> Result<Reply, EngineError> {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let frame = protocol::encode(&Request { number, ask })
            .map_err(|error| EngineError::Incompatible(format!("a request is {error}")))?;
        for _ in 0..TRIES {
            self.hello().await?;
            let reply = {
                let mut requests = lock(&self.shared.requests);
                let Some(out) = &requests.out else { continue };
                if out.send(frame.clone()).is_err() {
                    continue;
                }
                let (send, receive) = oneshot::channel();
                requests.waiting.insert(number, send);
                receive
            };
            if let Ok(reply) = reply.await {
                return Ok(reply);
            }
        }
        Err(self.away())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn keep_open(shared: Arc<Shared>, mut connection: Connection, mut hello: Hello) {
    loop {
        if !talk(&shared, connection, hello).await {
            // It answers and leaves: at once it would do so again.
            tokio::time::sleep(BUSY).await;
        }
        if matches!(*shared.condition.borrow(), Condition::Closed) {
            return;
        }
        let mut backoff = BUSY;
        (connection, hello) = loop {
            match connect_or_start(&shared.settings).await {
                Ok(connected) => break connected,
                Err(error) => {
                    tracing::error!(%error, "no keeper");
                    *lock(&shared.last_error) = Some(error.to_string());
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(WORST_BACKOFF);
                }
            }
        };
        *lock(&shared.last_error) = None;
        tracing::info!(pid = hello.pid, "connected to the keeper again");
    }
}

/// Until the connection ends; whether it had become of use.
async fn talk(shared: &Shared, connection: Connection, hello: Hello) -> bool {
    let mut of_use = false;
    let Connection { mut frames, write } = connection;
    let (out, receive) = unbounded_channel();
    // Ends when the last sender is gone.
    let writer = tokio::spawn(write_all(write, receive));
    shared.view.begin();
    if let Ok(frame) = protocol::encode(&Request { number: 0, ask: Ask::Watch }) {
        let _ = out.send(frame);
    }
    while let Some(Ok(frame)) = frames.next().await {
        match protocol::decode::<Message>(&frame) {
            Ok(Message::Known(known)) => shared.view.told(known),
            Ok(Message::Event(event)) => shared.view.event(event),
            Ok(Message::Reply { number: 0, .. }) => {
                shared.view.complete(now_micros());
                of_use = true;
                lock(&shared.requests).out = Some(out.clone());
                shared.condition.send_if_modified(|condition| {
                    let open = !matches!(condition, Condition::Closed);
                    if open {
                        *condition = Condition::Up(hello.clone());
                    }
                    open
                });
            }
            Ok(Message::Reply { number, reply }) => {
                if matches!(reply, Reply::Stopped(_)) {
                    // Before the connection ends, which would have a new keeper started.
                    shared.condition.send_replace(Condition::Closed);
                }
                if let Some(waiting) = lock(&shared.requests).waiting.remove(&number) {
                    let _ = waiting.send(reply);
                }
            }
            Ok(Message::Hello(_)) => {}
            Ok(Message::Refused(why)) => tracing::error!(%why, "the keeper refused"),
            Err(error) => {
                tracing::error!(%error, "the keeper was not understood");
                break;
            }
        }
    }
    shared.condition.send_if_modified(|condition| {
        let up = matches!(condition, Condition::Up(_));
        if up {
            *condition = Condition::Away;
        }
        up
    });
    // Whoever waits sees it dropped, and asks again.
    *lock(&shared.requests) = Requests::default();
    writer.abort();
    of_use
}

async fn write_all(mut write: OwnedWriteHalf, mut frames: UnboundedReceiver<Bytes>) {
    let mut waiting = Vec::new();
    let mut together = Vec::new();
    while frames.recv_many(&mut waiting, 256).await > 0 {
        together.clear();
        waiting.drain(..).for_each(|frame: Bytes| together.extend_from_slice(&frame));
        if write.write_all(&together).await.is_err() {
            return;
        }
    }
}

struct Connection {
    frames: Frames,
    write: OwnedWriteHalf,
}

async fn connect_or_start(settings: &Settings) -> Result<(Connection, Hello), EngineError> {
    let whole = async {
        loop {
            if let Some(connected) = connect(settings).await? {
                return Ok(connected);
            }
            if !start_keeper(settings).await? {
                tokio::time::sleep(BUSY).await;
            }
        }
    };
    match tokio::time::timeout(PATIENCE, whole).await {
        Ok(result) => result,
        Err(_) => Err(EngineError::KeeperStart(format!(
            "nothing answers at {} after {PATIENCE:?}",
            settings.socket.display()
        ))),
    }
}

/// None where no keeper listens, or where it is just leaving.
async fn connect(settings: &Settings) -> Result<Option<(Connection, Hello)>, EngineError> {
    let Ok(stream) = UnixStream::connect(&settings.socket).await else { return Ok(None) };
    let (read, mut write) = stream.into_split();
    let mine =
        protocol::encode(&Hello::new(String::new())).map_err(|error| EngineError::Incompatible(error.to_string()))?;
    if write.write_all(&mine).await.is_err() {
        return Ok(None);
    }
    let mut frames = protocol::frames(read);
    let Some(Ok(first)) = frames.next().await else { return Ok(None) };
    match protocol::decode::<Message>(&first) {
        Ok(Message::Hello(hello)) => match protocol::incompatible(&hello) {
            None => Ok(Some((Connection { frames, write }, hello))),
            Some(why) => Err(incompatible(&why)),
        },
        Ok(Message::Refused(why)) => Err(incompatible(&why)),
        _ => Err(incompatible("it answers what this version does not understand")),
    }
}

fn incompatible(why: &str) -> EngineError {
    EngineError::Incompatible(format!(
        "the keeper that runs on this machine was started by another version of Dure: {why}; \
         it ends by itself a minute after its last run and its last control plane"
    ))
}

/// Whether there is one now; if not, another has the state folder, and is coming or going.
async fn start_keeper(settings: &Settings) -> Result<bool, EngineError> {
    let failed = |what: &str, error: std::io::Error| EngineError::KeeperStart(format!("{what}: {error}"));
    let log_path = settings.state.keeper_log();
    let shown = log_path.display().to_string();
    if std::fs::metadata(&log_path).is_ok_and(|facts| facts.len() > LARGEST_LOG) {
        let _ = std::fs::remove_file(&log_path);
    }
    let log =
        std::fs::OpenOptions::new().append(true).create(true).open(&log_path).map_err(|error| failed(&shown, error))?;
    let Some((program, arguments)) = settings.command.split_first() else {
        return Err(EngineError::KeeperStart("no command for it was configured".into()));
    };
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .arg("--state")
        .arg(settings.state.folder())
        .arg("--socket")
        .arg(&settings.socket)
        // It needs nothing of ours, and what it has can be read by who may read its /proc.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    if let Some(idle) = settings.idle {
        command.arg("--idle-ms").arg(idle.as_millis().to_string());
    }
    let mut child = command.spawn().map_err(|error| failed(&program.to_string_lossy(), error))?;
    let stdout = child.stdout.take();
    // It outlives us; while we live, somebody has to take notice of its end.
    tokio::spawn(async move { child.wait().await });
    let mut line = String::new();
    if let Some(stdout) = stdout {
        let mut reader = BufReader::new(stdout);
        reader.read_line(&mut line).await.map_err(|error| failed("its first word", error))?;
    }
    match line.trim() {
        keeper::READY => Ok(true),
        keeper::BUSY => Ok(false),
        "" => Err(EngineError::KeeperStart(format!("it ended at once; see {shown}"))),
        message => Err(EngineError::KeeperStart(message.into())),
    }
}
