//! The logs of runs: what the engines' units wrote, byte for byte, one file per attempt, and the
//! lines of it that are meant for people.
//!
//! A log's length is all that there is to remember: whoever takes one in goes on at the length of its
//! file, so a kill in the middle loses nothing and doubles nothing.

mod filter;

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use dure_types::RunId;
use tokio::sync::watch;

pub use filter::LineFilter;

/// How far a log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    pub length: u64,
    /// Nothing will be added.
    pub complete: bool,
}

type Open = HashMap<(RunId, u32), watch::Sender<Progress>>;

pub struct Logs {
    folder: PathBuf,
    open: Arc<Mutex<Open>>,
    /// How many logs were opened to be written, for those who wait for one.
    opened: watch::Sender<u64>,
}

impl Logs {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, open: Arc::default(), opened: watch::Sender::new(0) }
    }

    fn path(&self, run: &RunId, attempt: u32) -> PathBuf {
        // Two levels, so that a folder does not get hundreds of thousands of entries.
        self.folder.join(&run.as_str()[..2]).join(format!("{run}-{attempt}.log"))
    }

    pub fn length(&self, run: &RunId, attempt: u32) -> u64 {
        self.path(run, attempt).metadata().map_or(0, |file| file.len())
    }

    /// Opens an attempt's log to be added to. The writer is the only one; dropping it completes the log.
    pub fn writer(&self, run: &RunId, attempt: u32) -> Writer {
        let path = self.path(run, attempt);
        let length = path.metadata().map_or(0, |file| file.len());
        let sender = watch::Sender::new(Progress { length, complete: false });
        let key = (run.clone(), attempt);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), sender);
        self.opened.send_modify(|opened| *opened += 1);
        Writer { path, file: None, length, open: Arc::clone(&self.open), key }
    }

    /// Changes when a log is opened to be written.
    pub fn opened(&self) -> watch::Receiver<u64> {
        self.opened.subscribe()
    }

    /// How far an attempt's log has come; complete at once when nobody writes it.
    pub fn progress(&self, run: &RunId, attempt: u32) -> watch::Receiver<Progress> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get(&(run.clone(), attempt)) {
            Some(sender) => sender.subscribe(),
            None => watch::Sender::new(Progress { length: self.length(run, attempt), complete: true }).subscribe(),
        }
    }

    /// Up to `most` bytes from an offset.
    pub fn read(&self, run: &RunId, attempt: u32, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut file = match File::open(self.path(run, attempt)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

pub struct Writer {
    path: PathBuf,
    /// Made with the first byte: a run that prints nothing costs no file.
    file: Option<File>,
    length: u64,
    open: Arc<Mutex<Open>>,
    key: (RunId, u32),
}

impl Writer {
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                if let Some(folder) = self.path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                none.insert(OpenOptions::new().create(true).append(true).open(&self.path)?)
            }
        };
        if let Err(error) = file.write_all(bytes) {
            // A part may have been written: the length on disk says what counts.
            self.length = self.path.metadata().map_or(self.length, |file| file.len());
            return Err(error);
        }
        self.length += bytes.len() as u64;
        self.tell(false);
        Ok(())
    }

    fn tell(&self, complete: bool) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = open.get(&self.key) {
            sender.send_replace(Progress { length: self.length, complete });
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.tell(true);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
