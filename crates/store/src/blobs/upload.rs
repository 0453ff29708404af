//! Uploads in parts. What came of an upload is a file for each project and digest, so that projects cannot disturb or
//! probe one another; its length is where the next part begins. It becomes content when it is complete and its hash
//! is right; otherwise it is thrown away. After a kill at any moment there is either nothing or a part to go on from.

use std::{
    collections::HashSet,
    fmt::Display,
    fs::{self, File, OpenOptions},
    io::{self, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use dure_types::{Digest, Name, blob::UploadStatus};
use futures_util::{Stream, StreamExt};
use sha2::{Digest as _, Sha256};

use super::{Blobs, CHUNK, blocking, hash};
use crate::StoreError;

/// The uploads that somebody writes to right now: one at a time for each.
#[derive(Clone, Default)]
pub(super) struct Uploads(Arc<Mutex<HashSet<(Name, Digest)>>>);

struct Turn {
    uploads: Uploads,
    key: (Name, Digest),
}

impl Uploads {
    fn take(&self, project: &Name, digest: &Digest) -> Result<Turn, StoreError> {
        let key = (project.clone(), digest.clone());
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            Ok(Turn { uploads: self.clone(), key })
        } else {
            Err(StoreError::Busy)
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.uploads.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// A part that is being written. It goes into each blocking write and comes back from it, so that a caller who
/// disappears in the middle leaves the turn taken until the write has ended.
struct Part {
    file: File,
    path: PathBuf,
    length: u64,
    /// Of everything so far, where the upload began with this part.
    hasher: Option<Sha256>,
    _turn: Turn,
}

impl Part {
    fn write(mut self, content: &[u8]) -> Result<Self, StoreError> {
        if let Err(error) = self.file.write_all(content) {
            // What does not fit is not kept: it would only keep the disk full.
            if error.kind() == io::ErrorKind::StorageFull {
                let _ = fs::remove_file(&self.path);
            }
            return Err(StoreError::io("an upload")(error));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(content);
        }
        self.length += content.len() as u64;
        Ok(self)
    }

    fn discard(self) -> Result<(), StoreError> {
        fs::remove_file(&self.path).map_err(StoreError::io("an upload"))
    }

    fn finish(mut self, blobs: &Blobs, digest: &Digest) -> Result<(), StoreError> {
        let found = match self.hasher.take() {
            Some(hasher) => Ok(Digest::from_hash(hasher.finalize())),
            None => self.file.rewind().and_then(|()| hash(&mut self.file, &mut io::sink())).map(|(found, _)| found),
        };
        let found = found.map_err(StoreError::io("an upload"))?;
        let kept = if found == *digest {
            blobs.keep(&self.file, &self.path, digest).map_err(StoreError::io("an upload"))
        } else {
            Err(StoreError::BlobMismatch { expected: digest.clone(), found })
        };
        // Wrong, or somebody else's was there already; where it was moved there is nothing left to remove.
        let _ = fs::remove_file(&self.path);
        kept
    }
}

impl Blobs {
    fn partial(&self, project: &Name, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(project.as_str()).join(digest.as_str())
    }

    /// How much of an upload has come: where its next part begins.
    pub async fn partial_offset(&self, project: &Name, digest: &Digest) -> u64 {
        tokio::fs::metadata(self.partial(project, digest)).await.map_or(0, |found| found.len())
    }

    /// Takes the part of an upload that begins at `offset`, of `size` bytes in all. What came is kept when the sender
    /// breaks off. When all is there it is checked, and counts only then.
    pub async fn append<S, E>(
        &self,
        project: &Name,
        digest: &Digest,
        offset: u64,
        size: u64,
        content: S,
    ) -> Result<UploadStatus, StoreError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Display,
    {
        let turn = self.uploads.take(project, digest)?;
        let path = self.partial(project, digest);
        let mut part = blocking(move || open_part(path, offset, turn)).await?;
        let mut content = std::pin::pin!(content);
        let mut waiting = Vec::new();
        let mut broken = None;
        let mut ended = false;
        while !ended {
            match content.next().await {
                Some(Ok(bytes)) => waiting.extend_from_slice(&bytes),
                Some(Err(error)) => broken = Some(error.to_string()),
                None => ended = true,
            }
            ended |= broken.is_some();
            if part.length + waiting.len() as u64 > size {
                blocking(move || part.discard()).await?;
                return Err(StoreError::Invalid(format!("more came than the {size} bytes that were announced")));
            }
            if waiting.len() >= CHUNK || (ended && !waiting.is_empty()) {
                let chunk = std::mem::take(&mut waiting);
                part = blocking(move || part.write(&chunk)).await?;
            }
        }
        if let Some(error) = broken {
            return Err(StoreError::Interrupted(error));
        }
        let status = UploadStatus { offset: part.length, complete: part.length == size };
        if status.complete {
            let (blobs, digest) = (self.clone(), digest.clone());
            blocking(move || part.finish(&blobs, &digest)).await?;
        }
        Ok(status)
    }
}

fn open_part(path: PathBuf, offset: u64, turn: Turn) -> Result<Part, StoreError> {
    let io = || StoreError::io("an upload");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io())?;
    }
    let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
    let file = opened.map_err(io())?;
    let length = file.metadata().map_err(io())?.len();
    if length != offset {
        return Err(StoreError::BlobOffset { expected: length });
    }
    Ok(Part { file, path, length, hasher: (offset == 0).then(Sha256::new), _turn: turn })
}
