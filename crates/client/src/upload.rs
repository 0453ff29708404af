//! Uploads: only what the project lacks, several files at once, in parts that go on where they stood.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use dure_types::{
    Digest, FileEntry, Manifest,
    blob::{ManifestCreated, MissingBlob, MissingRequest, MissingResponse, UploadStatus},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::{Client, ClientError, follow::Retry};

const PART: u64 = 8 << 20;
const AT_ONCE: usize = 4;
const DIGESTS_A_QUESTION: usize = 1000;
/// A part over a slow line.
const PART_TIME: std::time::Duration = std::time::Duration::from_secs(300);

/// A file's digest and size.
pub async fn hash_file(path: &Path) -> Result<(Digest, u64), ClientError> {
    let path = path.to_owned();
    let shown = path.clone();
    tokio::task::spawn_blocking(move || hash(&path))
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|error| ClientError::file(shown, error))
}

/// Of many files, a few at once, in the order given.
pub async fn hash_files(paths: Vec<PathBuf>) -> Result<Vec<(Digest, u64)>, ClientError> {
    let at_once = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    stream::iter(paths).map(|path| async move { hash_file(&path).await }).buffered(at_once).try_collect().await
}

fn hash(path: &Path) -> std::io::Result<(Digest, u64)> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let read = match file.read(&mut piece) {
            Ok(0) => return Ok((Digest::from_hash(hash.finalize()), size)),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&piece[..read]);
        size += read as u64;
    }
}

impl Client {
    pub async fn find_missing_blobs(&self, request: &MissingRequest) -> Result<MissingResponse, ClientError> {
        self.give(Method::POST, &["blobs", "missing"], request).await
    }

    /// One part of a blob of `size` bytes.
    pub async fn upload_blob(
        &self,
        digest: &Digest,
        offset: u64,
        size: u64,
        part: Bytes,
    ) -> Result<UploadStatus, ClientError> {
        let request = self.of_project(Method::PUT, &["blobs", digest.as_str()])?;
        let request = request.query(&[("offset", offset), ("size", size)]);
        let request = request.header("Content-Type", "application/octet-stream").timeout(PART_TIME).body(part);
        self.json(request).await
    }

    pub async fn create_manifest(&self, manifest: &Manifest) -> Result<ManifestCreated, ClientError> {
        self.give(Method::POST, &["manifests"], manifest).await
    }

    /// Brings files to the project and returns the manifest that lists them. `progress` is told each
    /// further number of bytes that the project has, in all the sum of the files' sizes.
    pub async fn upload(
        &self,
        files: Vec<(FileEntry, PathBuf)>,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<Digest, ClientError> {
        let mut sources: BTreeMap<Digest, (PathBuf, u64)> = BTreeMap::new();
        let mut entries = Vec::with_capacity(files.len());
        for (entry, path) in files {
            sources.entry(entry.digest.clone()).or_insert((path, entry.size));
            entries.push(entry);
        }
        let manifest = Manifest::new(entries).map_err(|error| ClientError::Input(error.to_string()))?;
        let mut missing = self.missing(sources.keys().cloned().collect()).await?;
        missing.retain(|digest, _| sources.contains_key(digest));
        let lacking: u64 = missing.iter().map(|(digest, offset)| sources[digest].1.saturating_sub(*offset)).sum();
        progress(manifest.size().saturating_sub(lacking));
        let progress = &progress;
        let sources = &sources;
        stream::iter(missing)
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, |(digest, offset)| async move {
                let (path, size) = &sources[&digest];
                self.upload_file(&digest, path, *size, offset, progress).await
            })
            .await?;
        let created = self.create_manifest(&manifest).await?;
        if created.digest != manifest.digest() {
            return Err(self.protocol("it lists other files than were sent"));
        }
        Ok(created.digest)
    }

    /// Which of these the project lacks, and how much of each it has.
    async fn missing(&self, digests: Vec<Digest>) -> Result<HashMap<Digest, u64>, ClientError> {
        let mut missing = HashMap::new();
        for digests in digests.chunks(DIGESTS_A_QUESTION) {
            let answer = self.find_missing_blobs(&MissingRequest { digests: digests.to_vec() }).await?;
            missing.extend(answer.missing.into_iter().map(|MissingBlob { digest, offset }| (digest, offset)));
        }
        Ok(missing)
    }

    async fn upload_file(
        &self,
        digest: &Digest,
        path: &Path,
        size: u64,
        mut offset: u64,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<(), ClientError> {
        let at_path = |error| ClientError::file(path, error);
        let mut file = tokio::fs::File::open(path).await.map_err(at_path)?;
        let mut retry = Retry::new(self.patience);
        // Progress never goes back, even if the server has less than it said.
        let mut told = offset;
        loop {
            let part = read_part(&mut file, offset, size).await.map_err(at_path)?;
            match self.upload_blob(digest, offset, size, part).await {
                Ok(status) => {
                    let reached = if status.complete { size } else { status.offset };
                    progress(reached.saturating_sub(told));
                    told = told.max(reached);
                    if status.complete {
                        return Ok(());
                    }
                    if status.offset > size {
                        return Err(self.protocol("it has more of a file than there is"));
                    }
                    if status.offset > offset {
                        retry.worked();
                        offset = status.offset;
                        continue;
                    }
                    offset = status.offset;
                    self.rest(&mut retry, self.unreachable("it does not keep what is sent")).await?;
                }
                Err(error) if error.is_passing() || is_elsewhere(&error) => {
                    // What has arrived of the part, only the server knows.
                    offset = match self.resume(&mut retry, error, digest).await? {
                        Some(offset) if offset <= size => offset,
                        Some(_) => return Err(self.protocol("it has more of a file than there is")),
                        None => {
                            progress(size.saturating_sub(told));
                            return Ok(());
                        }
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks until there is an answer how much of a blob the server has; none when it has all of it.
    async fn resume(
        &self,
        retry: &mut Retry,
        mut error: ClientError,
        digest: &Digest,
    ) -> Result<Option<u64>, ClientError> {
        loop {
            self.rest(retry, error).await?;
            match self.missing(vec![digest.clone()]).await {
                Ok(missing) => return Ok(missing.get(digest).copied()),
                Err(again) if again.is_passing() => error = again,
                Err(other) => return Err(other),
            }
        }
    }

    async fn rest(&self, retry: &mut Retry, error: ClientError) -> Result<(), ClientError> {
        match retry.pause() {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(error),
        }
        Ok(())
    }
}

/// Another upload of the same content moved the place where this one stood.
fn is_elsewhere(error: &ClientError) -> bool {
    matches!(error, ClientError::Problem(problem) if problem.status == 409)
}

async fn read_part(file: &mut tokio::fs::File, offset: u64, size: u64) -> std::io::Result<Bytes> {
    let length = PART.min(size.saturating_sub(offset));
    file.seek(std::io::SeekFrom::Start(offset)).await?;
    let mut part = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    (&mut *file).take(length).read_to_end(&mut part).await?;
    if (part.len() as u64) < length {
        return Err(std::io::Error::other("it was changed while it was uploaded"));
    }
    Ok(part.into())
}
