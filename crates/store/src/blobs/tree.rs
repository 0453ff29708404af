//! Takes in what a program left in a folder. The program may have put links there, or put them there while this
//! reads: every step goes from an open folder to a name in it, and follows no link.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use dure_types::{FileEntry, Manifest, blob::is_inner_path};
use rustix::fs::{Dir, FileType, Mode, OFlags, openat};

use super::{Blobs, blocking};
use crate::StoreError;

/// More files than this are a mistake.
const MOST_FILES: usize = 100_000;
const DEEPEST: usize = 64;

impl Blobs {
    /// The file or folder `inner` below `root` (`.` is all of it) as a manifest, its contents kept. A file by itself
    /// is a manifest of one, under its own name.
    pub async fn put_tree(&self, root: &Path, inner: &str) -> Result<Manifest, StoreError> {
        let (blobs, root, inner) = (self.clone(), root.to_owned(), inner.to_owned());
        blocking(move || blobs.take_in(&root, &inner)).await
    }

    fn take_in(&self, root: &Path, inner: &str) -> Result<Manifest, StoreError> {
        let inner = inner.trim_end_matches('/').trim_start_matches("./");
        let opened = rustix::fs::open(root, FOLDER, Mode::empty());
        let mut folder = opened.map_err(|error| StoreError::io(root.display().to_string())(error.into()))?;
        let mut files = Vec::new();
        if inner.is_empty() || inner == "." {
            self.folder(&folder, "", 0, &mut files)?;
            return manifest(files);
        }
        if !is_inner_path(inner) {
            return Err(StoreError::Invalid(format!("`{inner}` is not a path inside a folder")));
        }
        let (parents, last) = inner.rsplit_once('/').map_or((None, inner), |(parents, last)| (Some(parents), last));
        for part in parents.iter().flat_map(|parents| parents.split('/')) {
            folder = open(&folder, part, FOLDER, inner)?;
        }
        match open(&folder, last, FOLDER, inner) {
            Ok(found) => self.folder(&found, "", 0, &mut files)?,
            Err(StoreError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotADirectory => {
                files.push(self.file(&folder, last, last.to_owned())?);
            }
            Err(error) => return Err(error),
        }
        manifest(files)
    }

    fn folder(
        &self,
        folder: &OwnedFd,
        above: &str,
        depth: usize,
        files: &mut Vec<FileEntry>,
    ) -> Result<(), StoreError> {
        let io = |error: rustix::io::Errno| StoreError::io(format!("the folder `{above}`"))(error.into());
        if depth > DEEPEST {
            return Err(StoreError::Invalid(format!("`{above}` lies deeper than {DEEPEST} folders")));
        }
        for entry in Dir::read_from(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(name) = name.to_str() else {
                return Err(StoreError::Invalid(format!("a name in `{above}` is not UTF-8")));
            };
            let path = if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
            if files.len() >= MOST_FILES {
                return Err(StoreError::Invalid(format!("there are more than {MOST_FILES} files")));
            }
            match kind(folder, name, &path)? {
                FileType::Directory => self.folder(&open(folder, name, FOLDER, &path)?, &path, depth + 1, files)?,
                FileType::RegularFile => files.push(self.file(folder, name, path)?),
                FileType::Symlink => return Err(StoreError::Invalid(format!("`{path}` is a symbolic link"))),
                _ => return Err(StoreError::Invalid(format!("`{path}` is neither a file nor a folder"))),
            }
        }
        Ok(())
    }

    fn file(&self, folder: &OwnedFd, name: &str, path: String) -> Result<FileEntry, StoreError> {
        let file = File::from(open(folder, name, FILE, &path)?);
        let mode = file.metadata().map_err(StoreError::io(path.clone()))?.permissions().mode();
        let (digest, size) = self.put_regular(&file, &path)?;
        Ok(FileEntry { path, digest, size, executable: mode & 0o100 != 0 })
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Without NONBLOCK opening a pipe would wait for its other end.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn open(folder: &OwnedFd, name: &str, flags: OFlags, shown: &str) -> Result<OwnedFd, StoreError> {
    match openat(folder.as_fd(), name, flags, Mode::empty()) {
        Ok(opened) => Ok(opened),
        Err(_) if matches!(kind(folder, name, shown), Ok(FileType::Symlink)) => {
            Err(StoreError::Invalid(format!("`{shown}` is or leads through a symbolic link")))
        }
        Err(error) => Err(StoreError::io(format!("`{shown}`"))(error.into())),
    }
}

fn kind(folder: &OwnedFd, name: &str, shown: &str) -> Result<FileType, StoreError> {
    let found = rustix::fs::statat(folder.as_fd(), name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    let found = found.map_err(|error| StoreError::io(format!("`{shown}`"))(error.into()))?;
    Ok(FileType::from_raw_mode(found.st_mode))
}

fn manifest(files: Vec<FileEntry>) -> Result<Manifest, StoreError> {
    Manifest::new(files).map_err(|error| StoreError::Invalid(error.to_string()))
}
