//! Puts a unit's folder together, and takes it away.
//!
//! A folder is made under another name and renamed when it is complete, so that whoever dies in
//! the middle leaves nothing half done where units are looked for. Files are copies: a unit that
//! runs as root can change its own, and never the original.

use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::places::{self, State};
use super::spare::Spare;
use crate::engine::Blobs;
use crate::error::EngineError;
use crate::unit::{FileEntry, Mount, MountPoint, UnitId, UnitSpec};

const COPIES_AT_ONCE: usize = 8;

/// The spec is validated. What lies at the unit's place already was never started.
pub async fn stage(state: &State, spare: &Arc<Spare>, spec: &UnitSpec, blobs: &dyn Blobs) -> Result<(), EngineError> {
    let failed = |path: String, source: io::Error| EngineError::Stage { unit: spec.id.clone(), path, source };
    let at_unit = |source| failed("the unit's folder".into(), source);
    let building = state.staging().join(spec.id.as_str());
    let place = state.unit(&spec.id);
    let staging = state.staging();
    let parameters = match &spec.parameters {
        serde_json::Value::Null => None,
        parameters => Some(parameters.to_string()),
    };
    let (folder, spare) = (building.clone(), spare.clone());
    if spec.mounts.is_empty() {
        // Most small units: one step in the background, not three.
        let whole = move || {
            make_folder(&folder, &spare, parameters)?;
            put_in_place(&folder, &place, &staging)
        };
        return blocking(whole).await.map_err(at_unit);
    }
    blocking(move || make_folder(&folder, &spare, parameters)).await.map_err(at_unit)?;
    for mount in &spec.mounts {
        copy(mount, &building, blobs)
            .await
            .map_err(|(path, source)| failed(format!("{path:?} of {}", mount.at), source))?;
    }
    blocking(move || put_in_place(&building, &place, &staging)).await.map_err(at_unit)
}

fn put_in_place(building: &Path, place: &Path, staging: &Path) -> io::Result<()> {
    match std::fs::rename(building, place) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            remove_tree(&move_away(place, staging)?)?;
            std::fs::rename(building, place)
        }
        other => other,
    }
}

fn make_folder(building: &Path, spare: &Spare, parameters: Option<String>) -> io::Result<()> {
    if building.symlink_metadata().is_ok() {
        remove_tree(building)?;
    }
    if !spare.take(building) {
        let make = |path: &Path| std::fs::DirBuilder::new().mode(0o700).create(path);
        make(building)?;
        for name in places::FOLDERS {
            make(&building.join(name))?;
        }
    }
    if let Some(parameters) = parameters {
        std::fs::write(building.join(places::PARAMETERS), parameters)?;
    }
    Ok(())
}

async fn copy(mount: &Mount, building: &Path, blobs: &dyn Blobs) -> Result<(), (String, io::Error)> {
    let (root, writable) = match &mount.at {
        MountPoint::Code => (building.join(places::CODE), true),
        MountPoint::Data(name) => (building.join(places::DATA).join(name), false),
        MountPoint::Model(name) => (building.join(places::MODELS).join(name), false),
    };
    let mut folders: Vec<PathBuf> = mount
        .files
        .iter()
        .flat_map(|file| Path::new(&file.path).ancestors().skip(1))
        .map(|folder| root.join(folder))
        .collect();
    folders.push(root.clone());
    folders.sort();
    folders.dedup();
    let made = folders.clone();
    blocking(move || made.iter().try_for_each(std::fs::create_dir_all))
        .await
        .map_err(|error| (String::from("."), error))?;
    let copies = mount.files.iter().map(|file| {
        let to = root.join(&file.path);
        async move {
            let copied = copy_file(file, to, writable, blobs).await;
            copied.map_err(|error| (file.path.clone(), error))
        }
    });
    stream::iter(copies.collect::<Vec<_>>()).buffer_unordered(COPIES_AT_ONCE).try_collect::<()>().await?;
    if !writable {
        blocking(move || folders.iter().try_for_each(|folder| set_mode(folder, 0o555)))
            .await
            .map_err(|error| (String::from("."), error))?;
    }
    Ok(())
}

async fn copy_file(file: &FileEntry, to: PathBuf, writable: bool, blobs: &dyn Blobs) -> io::Result<()> {
    blobs.copy_to(&file.digest, &to).await?;
    let mode = match (writable, file.executable) {
        (true, true) => 0o755,
        (true, false) => 0o644,
        (false, true) => 0o555,
        (false, false) => 0o444,
    };
    let size = file.size;
    blocking(move || {
        let found = std::fs::symlink_metadata(&to)?;
        if !found.is_file() || found.len() != size {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it should have {size} bytes and has {}", found.len()),
            ));
        }
        set_mode(&to, mode)
    })
    .await
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Takes a unit's folder away: first out of sight in one step, then piece by piece, unless the
/// next unit can have it.
pub async fn remove(state: &State, spare: &Arc<Spare>, id: &UnitId) -> Result<(), EngineError> {
    let (place, staging, spare) = (state.unit(id), state.staging(), spare.clone());
    let shown = place.clone();
    blocking(move || match move_away(&place, &staging) {
        Ok(away) if spare.keep(&away) => Ok(()),
        Ok(away) => remove_tree(&away),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    })
    .await
    .map_err(|source| EngineError::Io { path: shown, source })
}

/// Takes away what a crash left: everything half staged or half removed, and staged folders
/// that are of no unit the keeper knows.
pub fn clean(state: &State, known: impl Fn(&str) -> bool) -> io::Result<()> {
    for folder in [state.staging(), state.spare()] {
        for entry in std::fs::read_dir(folder)? {
            remove_tree(&entry?.path())?;
        }
    }
    for entry in std::fs::read_dir(state.units())? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(&known) {
            remove_tree(&move_away(&entry.path(), &state.staging())?)?;
        }
    }
    Ok(())
}

fn move_away(place: &Path, staging: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let away = staging.join(format!("{name}.gone-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::rename(place, &away)?;
    Ok(away)
}

/// Like `remove_dir_all`, but read-only folders do not stop it.
fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path)?;
            std::fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => std::fs::remove_file(path),
        other => other,
    }
}

/// Opens every folder without following links: the tree is whatever a unit left there.
fn make_writable(folder: &Path) -> io::Result<()> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY | libc::O_PATH)
            .open(&folder)?;
        let through = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened)));
        set_mode(&through, 0o700)?;
        for entry in std::fs::read_dir(&through)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(folder.join(entry.file_name()));
            }
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_is_taken_away_and_units_stay() {
        let temp = tempfile::tempdir().unwrap();
        let state = State::new(temp.path().to_path_buf());
        for path in ["spare/1", "staging/half/data/d", "units/known-1-0/code", "units/staged-1-0/data"] {
            std::fs::create_dir_all(temp.path().join(path)).unwrap();
        }
        set_mode(&temp.path().join("staging/half/data"), 0o555).unwrap();
        set_mode(&temp.path().join("units/staged-1-0/data"), 0o000).unwrap();
        clean(&state, |id| id == "known-1-0").unwrap();
        assert!(std::fs::read_dir(state.staging()).unwrap().next().is_none());
        assert_eq!(std::fs::read_dir(state.units()).unwrap().count(), 1);
    }

    #[test]
    fn removing_does_not_follow_links() {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        set_mode(&outside, 0o555).unwrap();
        let tree = temp.path().join("tree/locked");
        std::fs::create_dir_all(&tree).unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
        set_mode(&tree, 0o555).unwrap();
        remove_tree(&temp.path().join("tree")).unwrap();
        assert!(outside.join("kept").exists());
        assert_eq!(std::fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o555);
        set_mode(&outside, 0o755).unwrap();
    }
}
