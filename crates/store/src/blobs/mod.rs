//! Content on disk, by its SHA-256: `content/ab/cdef...`, read-only files that appear whole or not at all. A file is
//! written beside its place, hashed on the way, made durable and only then renamed to where its digest says.
//!
//! Uploads in parts are in `upload`, what runs left behind comes in by `tree`, downloads go out by `archive`.
//! Who may name which content is not known here: that is in the rows (`blob`).

mod archive;
mod tree;
mod upload;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use dure_types::{Digest, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::StoreError;

/// The content of one installation. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    root: Arc<Path>,
    uploads: upload::Uploads,
}

/// What an upload that nobody goes on with is kept for.
const STALE: Duration = Duration::from_secs(24 * 3600);
const CHUNK: usize = 1 << 20;

impl Blobs {
    /// Opens or makes the folder, and clears what interrupted writes and uploads older than a day have left.
    pub fn open(root: &Path, now: Timestamp) -> Result<Self, StoreError> {
        for folder in ["content", "partial", "making"] {
            let path = root.join(folder);
            let made =
                fs::create_dir_all(&path).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)));
            made.map_err(StoreError::io(path.display().to_string()))?;
        }
        let blobs = Self { root: root.into(), uploads: upload::Uploads::default() };
        blobs.clear(now).map_err(StoreError::io(root.display().to_string()))?;
        Ok(blobs)
    }

    fn clear(&self, now: Timestamp) -> io::Result<()> {
        for left in fs::read_dir(self.root.join("making"))? {
            fs::remove_file(left?.path())?;
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(now.micros()).unwrap_or(0));
        for project in fs::read_dir(self.root.join("partial"))? {
            for partial in fs::read_dir(project?.path())? {
                let partial = partial?;
                let age = now.duration_since(partial.metadata()?.modified()?).unwrap_or_default();
                if age > STALE {
                    fs::remove_file(partial.path())?;
                }
            }
        }
        Ok(())
    }

    /// Where content is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let (folder, rest) = digest.as_str().split_at(2);
        self.root.join("content").join(folder).join(rest)
    }

    pub async fn contains(&self, digest: &Digest) -> bool {
        tokio::fs::metadata(self.path(digest)).await.is_ok()
    }

    pub async fn open_blob(&self, digest: &Digest) -> Result<tokio::fs::File, StoreError> {
        tokio::fs::File::open(self.path(digest)).await.map_err(|error| lost(digest, error))
    }

    pub async fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        tokio::fs::metadata(self.path(digest)).await.map(|found| found.len()).map_err(|error| lost(digest, error))
    }

    /// Small content that was made here.
    pub async fn put_bytes(&self, content: bytes::Bytes) -> Result<(Digest, u64), StoreError> {
        let blobs = self.clone();
        blocking(move || blobs.put(content.as_ref(), "content")).await
    }

    /// A file's content. A link in its place is refused: it could lead to anything that Dure may read.
    pub async fn put_file(&self, path: &Path) -> Result<(Digest, u64), StoreError> {
        let (blobs, path) = (self.clone(), path.to_owned());
        blocking(move || {
            let shown = path.display().to_string();
            let opened = OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(&path);
            let file = opened.map_err(StoreError::io(shown.clone()))?;
            blobs.put_regular(&file, &shown)
        })
        .await
    }

    /// A copy of its own, checked against the digest; what is done to it cannot reach the original. `to` must not
    /// exist yet.
    pub async fn copy_to(&self, digest: &Digest, to: &Path, executable: bool) -> Result<(), StoreError> {
        let (blobs, digest, to) = (self.clone(), digest.clone(), to.to_owned());
        blocking(move || blobs.copy(&digest, &to, executable)).await
    }

    fn copy(&self, digest: &Digest, to: &Path, executable: bool) -> Result<(), StoreError> {
        let shown = to.display().to_string();
        let from = File::open(self.path(digest)).map_err(|error| lost(digest, error))?;
        let mode = if executable { 0o755 } else { 0o644 };
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(to);
        let mut copy = opened.map_err(StoreError::io(shown.clone()))?;
        // A reflink where the filesystem has them: no byte is copied, and each side is still its own.
        let found = if rustix::fs::ioctl_ficlone(&copy, &from).is_ok() {
            hash(&mut copy, &mut io::sink())
        } else {
            hash(&mut &from, &mut copy)
        };
        let checked = found.map_err(StoreError::io(shown)).and_then(|(found, _)| {
            if found == *digest {
                Ok(())
            } else {
                Err(StoreError::Corrupt(format!("the content {} has changed on disk", digest.short())))
            }
        });
        if checked.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(to);
        }
        checked
    }

    fn put_regular(&self, file: &File, shown: &str) -> Result<(Digest, u64), StoreError> {
        let kind = file.metadata().map_err(StoreError::io(shown))?;
        if !kind.is_file() {
            return Err(StoreError::Invalid(format!("{shown} is not a regular file")));
        }
        self.put(file, shown)
    }

    fn put(&self, mut content: impl Read, shown: &str) -> Result<(Digest, u64), StoreError> {
        let making = tempfile::Builder::new().tempfile_in(self.root.join("making"));
        let mut making = making.map_err(StoreError::io("content that is being made"))?;
        let (digest, size) = hash(&mut content, making.as_file_mut()).map_err(StoreError::io(shown))?;
        self.keep(making.as_file(), making.path(), &digest).map_err(StoreError::io(shown))?;
        // Kept or there already; either way the temporary name is gone or may go.
        Ok((digest, size))
    }

    /// Moves a complete file to its place, durably.
    fn keep(&self, file: &File, from: &Path, digest: &Digest) -> io::Result<()> {
        let to = self.path(digest);
        if to.try_exists()? {
            return Ok(());
        }
        file.set_permissions(fs::Permissions::from_mode(0o444))?;
        file.sync_all()?;
        let content = self.root.join("content");
        let folder = to.parent().unwrap_or(&content);
        if !folder.try_exists()? {
            fs::create_dir_all(folder)?;
            File::open(&content)?.sync_all()?;
        }
        fs::rename(from, &to)?;
        File::open(folder)?.sync_all()
    }
}

const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32 | rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// Copies all of it, and says what it was.
fn hash(from: &mut impl Read, to: &mut impl Write) -> io::Result<(Digest, u64)> {
    let (mut hasher, mut buffer, mut size) = (Sha256::new(), vec![0; CHUNK], 0);
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
        size += count as u64;
    }
    Ok((Digest::from_hash(hasher.finalize()), size))
}

fn lost(digest: &Digest, error: io::Error) -> StoreError {
    if error.kind() == io::ErrorKind::NotFound {
        StoreError::not_found(format!("content {}", digest.short()))
    } else {
        StoreError::io(format!("content {}", digest.short()))(error)
    }
}

/// Runs what waits for the disk where it may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Closed),
        },
    }
}
