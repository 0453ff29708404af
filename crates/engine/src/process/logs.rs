//! Reads a unit's log as it grows, woken by the kernel when it did.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{oneshot, watch};

use crate::engine::LogStream;

const CHUNK: usize = 64 * 1024;
/// Between looks at a file where the kernel has no watch left to give.
const WITHOUT_WATCH: Duration = Duration::from_millis(250);

/// All watches of an engine; the kernel gives a user few instances and many watches.
pub struct Watches {
    fd: Arc<AsyncFd<OwnedFd>>,
    watched: Arc<Mutex<HashMap<i32, Watched>>>,
    task: tokio::task::JoinHandle<()>,
}

struct Watched {
    changes: watch::Sender<()>,
    readers: usize,
}

impl Watches {
    pub fn new() -> io::Result<Watches> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        // SAFETY: it owns the descriptor, which so stays the same and open.
        let fd = Arc::new(unsafe { AsyncFd::register(inotify::init(flags)?) }?);
        let watched = Arc::new(Mutex::new(HashMap::new()));
        let task = tokio::spawn(wake(fd.clone(), watched.clone()));
        Ok(Watches { fd, watched, task })
    }

    fn watch(&self, path: &Path) -> io::Result<Changes> {
        let mut watched = lock(&self.watched);
        // The same file gets the same number again.
        let number = inotify::add_watch(self.fd.get_ref(), path, inotify::WatchFlags::MODIFY)?;
        let entry = watched.entry(number).or_insert_with(|| Watched { changes: watch::Sender::new(()), readers: 0 });
        entry.readers += 1;
        let receive = entry.changes.subscribe();
        Ok(Changes { receive, number, fd: self.fd.clone(), watched: self.watched.clone() })
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(watched: &Mutex<HashMap<i32, Watched>>) -> MutexGuard<'_, HashMap<i32, Watched>> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn wake(fd: Arc<AsyncFd<OwnedFd>>, watched: Arc<Mutex<HashMap<i32, Watched>>>) {
    while let Ok(mut ready) = fd.readable().await {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(fd.get_ref(), &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                lock(&watched).values().for_each(|one| one.changes.send_replace(()));
            } else if let Some(one) = lock(&watched).get(&event.wd()) {
                one.changes.send_replace(());
            }
        }
        ready.clear_ready();
    }
}

struct Changes {
    receive: watch::Receiver<()>,
    number: i32,
    fd: Arc<AsyncFd<OwnedFd>>,
    watched: Arc<Mutex<HashMap<i32, Watched>>>,
}

impl Drop for Changes {
    fn drop(&mut self) {
        let mut watched = lock(&self.watched);
        if let Some(entry) = watched.get_mut(&self.number) {
            entry.readers -= 1;
            if entry.readers == 0 {
                watched.remove(&self.number);
                // It goes by itself when the file is deleted.
                let _ = inotify::remove_watch(self.fd.get_ref(), self.number);
            }
        }
    }
}

/// `end` resolves when nothing more is written; none if that is so already.
pub fn follow(watches: Arc<Watches>, path: PathBuf, offset: u64, mut end: Option<oneshot::Receiver<()>>) -> LogStream {
    let stream = async_stream::try_stream! {
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.read(true).custom_flags(libc::O_NOFOLLOW).open(&path).await?;
        file.seek(io::SeekFrom::Start(offset)).await?;
        let mut changes = None;
        if end.is_some() {
            changes = watches.watch(&path).ok();
        }
        let mut ended = end.is_none();
        loop {
            // Looked at before reading, so that no change after it is missed.
            if let Some(changes) = &mut changes {
                changes.receive.borrow_and_update();
            }
            loop {
                let mut chunk = BytesMut::with_capacity(CHUNK);
                if file.read_buf(&mut chunk).await? == 0 {
                    break;
                }
                yield chunk.freeze();
            }
            let Some(until) = end.as_mut().filter(|_| !ended) else { break };
            let changed = async {
                match &mut changes {
                    Some(changes) => drop(changes.receive.changed().await),
                    None => tokio::time::sleep(WITHOUT_WATCH).await,
                }
            };
            // After the end, what was written before it is read once more.
            tokio::select! {
                _ = until => ended = true,
                () = changed => {}
            }
        }
    };
    stream.boxed()
}
