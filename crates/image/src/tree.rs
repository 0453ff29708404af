//! The folder of an environment on disk: made, closed against writing, removed.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Takes the right to write from everything below `root`. A guard against accidents: whoever
/// owns the files can give it back. Links are left alone, since they lead out of the tree.
pub(crate) fn close(root: &Path) -> io::Result<()> {
    change(root, &|mode, _| mode & !0o222)
}

/// Removes a tree that may be closed or half-made; nothing there is fine.
pub fn remove(root: &Path) -> io::Result<()> {
    match fs::symlink_metadata(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_dir() => return fs::remove_file(root),
        Ok(_) => {}
    }
    if fs::remove_dir_all(root).is_ok() {
        return Ok(());
    }
    // Entries can only be taken out of a folder that may be written.
    change(root, &|mode, folder| if folder { mode | 0o700 } else { mode })?;
    fs::remove_dir_all(root)
}

fn change(path: &Path, to: &dyn Fn(u32, bool) -> u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let old = metadata.permissions().mode() & 0o7777;
    let new = to(old, metadata.is_dir());
    let set = || fs::set_permissions(path, fs::Permissions::from_mode(new));
    // A folder is opened before what is in it, and closed after.
    if metadata.is_dir() {
        if new & !old != 0 {
            set()?;
        }
        for entry in fs::read_dir(path)? {
            change(&entry?.path(), to)?;
        }
    }
    if new != old {
        set()?;
    }
    Ok(())
}

/// A name that no other build uses at the same time, of this process or of another.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether a file of `from` can be cloned into `into`, so that both share blocks until one of them
/// is written. uv's own clone falls back to hard links, through which a run could change the cache.
pub(crate) fn can_clone(from: &Path, into: &Path) -> bool {
    let source = from.join(format!(".clone-{}", unique()));
    let target = into.join(".clone");
    let attempt = || -> io::Result<()> {
        fs::write(&source, b"x")?;
        let (source, target) = (fs::File::open(&source)?, fs::File::create(&target)?);
        Ok(rustix::fs::ioctl_ficlone(&target, &source)?)
    };
    let cloned = attempt().is_ok();
    let _ = fs::remove_file(&source);
    let _ = fs::remove_file(&target);
    cloned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_tree_is_removed_and_what_its_links_name_is_untouched() {
        let outside = tempfile::NamedTempFile::new().expect("file");
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode();
        let before = mode(outside.path());
        let parent = tempfile::tempdir().expect("folder");
        let root = parent.path().join("environment");
        fs::create_dir_all(root.join("a/b")).expect("made");
        fs::write(root.join("a/b/file"), "x").expect("written");
        std::os::unix::fs::symlink(outside.path(), root.join("a/link")).expect("linked");
        close(&root).expect("closed");
        assert_eq!(mode(&root.join("a/b/file")) & 0o222, 0);
        assert_eq!(mode(&root.join("a")) & 0o222, 0);
        remove(&root).expect("removed");
        assert!(!root.exists());
        assert_eq!(mode(outside.path()), before);
        remove(&root).expect("nothing to remove is fine");
    }
}
