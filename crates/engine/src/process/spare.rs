//! Folders of units that are gone, for the next units.
//!
//! On some file systems making a folder costs as much as starting a process, and a unit has five.
//! A folder is only kept if nothing in it tells of the unit that had it: every part is there,
//! empty, ours, and as it was made. All others are deleted.

use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::places::{FOLDERS, LOG};

const MOST: usize = 256;

pub struct Spare {
    folder: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    free: Vec<PathBuf>,
    next: u64,
}

impl Spare {
    /// Begins with none: what an earlier engine kept is deleted when the next one starts.
    pub fn new(folder: PathBuf) -> Spare {
        Spare { folder, kept: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there now is a folder at `to`.
    pub fn take(&self, to: &Path) -> bool {
        let taken = self.lock().free.pop();
        taken.is_some_and(|folder| std::fs::rename(folder, to).is_ok())
    }

    /// Whether the folder was kept; if not it is where it was.
    pub fn keep(&self, folder: &Path) -> bool {
        if self.lock().free.len() >= MOST || !empty_again(folder).unwrap_or(false) {
            return false;
        }
        let mut kept = self.lock();
        kept.next += 1;
        let to = self.folder.join(kept.next.to_string());
        if std::fs::rename(folder, &to).is_err() {
            return false;
        }
        kept.free.push(to);
        true
    }
}

/// Whether it is as if nothing had ever run in it. Nothing of the unit lives any more.
fn empty_again(folder: &Path) -> io::Result<bool> {
    let me = rustix::process::geteuid().as_raw();
    let is_ours = |path: &Path, mode: u32| -> io::Result<bool> {
        let facts = path.symlink_metadata()?;
        Ok(facts.uid() == me && facts.mode() == mode)
    };
    let folder_mode = libc::S_IFDIR | 0o700;
    if !is_ours(folder, folder_mode)? {
        return Ok(false);
    }
    let mut parts = 0;
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        parts += 1;
        if name != LOG && !FOLDERS.iter().any(|known| name == *known) {
            return Ok(false);
        }
    }
    if parts != FOLDERS.len() + 1 {
        return Ok(false);
    }
    for name in FOLDERS {
        let part = folder.join(name);
        if !is_ours(&part, folder_mode)? || std::fs::read_dir(part)?.next().is_some() {
            return Ok(false);
        }
    }
    let log = folder.join(LOG);
    if !is_ours(&log, libc::S_IFREG | 0o600)? || log.symlink_metadata()?.nlink() != 1 {
        return Ok(false);
    }
    if log.symlink_metadata()?.len() > 0 {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).custom_flags(libc::O_NOFOLLOW).open(log)?.set_len(0)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};

    fn unit(at: &Path) -> PathBuf {
        let folder = at.join("unit");
        let make = |path: &Path| std::fs::DirBuilder::new().mode(0o700).create(path).unwrap();
        make(&folder);
        FOLDERS.iter().for_each(|name| make(&folder.join(name)));
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).mode(0o600).open(folder.join(LOG)).unwrap();
        folder
    }

    #[test]
    fn only_a_folder_that_tells_nothing_is_given_to_the_next_unit() {
        let change: [fn(&Path); 7] = [
            |folder| std::fs::write(folder.join("home/secret"), "").unwrap(),
            |folder| std::fs::write(folder.join("more"), "").unwrap(),
            |folder| std::fs::remove_dir(folder.join("tmp")).unwrap(),
            |folder| std::fs::set_permissions(folder.join("code"), PermissionsExt::from_mode(0o755)).unwrap(),
            |folder| {
                std::fs::remove_dir(folder.join("output")).unwrap();
                symlink("/etc", folder.join("output")).unwrap();
            },
            |folder| {
                std::fs::remove_file(folder.join(LOG)).unwrap();
                symlink("/etc/passwd", folder.join(LOG)).unwrap();
            },
            |folder| std::fs::hard_link(folder.join(LOG), folder.with_file_name("link")).unwrap(),
        ];
        for change in change {
            let temp = tempfile::tempdir().unwrap();
            let folder = unit(temp.path());
            change(&folder);
            assert!(!Spare::new(temp.path().into()).keep(&folder));
            assert!(folder.exists());
        }
        let temp = tempfile::tempdir().unwrap();
        let folder = unit(temp.path());
        std::fs::write(folder.join(LOG), "what it said").unwrap();
        let spare = Spare::new(temp.path().into());
        assert!(spare.keep(&folder) && !folder.exists());
        assert!(spare.take(&folder) && !spare.take(&temp.path().join("other")));
        assert_eq!(std::fs::read_to_string(folder.join(LOG)).unwrap(), "");
    }
}
