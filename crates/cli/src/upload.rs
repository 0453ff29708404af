//! Which files of a folder are uploaded.
//!
//! Code honours .gitignore and .dureignore and never takes .git along; a dataset is taken whole. What is
//! no plain file, and links that leave the folder, are refused by name rather than left out, because a run
//! that lacks a file without a word is the worst of errors.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use dure_types::blob::is_inner_path;

use crate::{messages, near};

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("{}", messages::cannot_read(.0.display(), .1))]
    Read(PathBuf, std::io::Error),
    #[error("{}", messages::link_leaves(.0.display(), .1.display()))]
    LinkLeaves(PathBuf, PathBuf),
    #[error("{}", messages::link_broken(.0.display()))]
    LinkBroken(PathBuf),
    #[error("{}", messages::odd_file(.0.display(), .1))]
    Odd(PathBuf, &'static str),
    #[error("{}", messages::odd_name(.0.display()))]
    Name(PathBuf),
    #[error("{}", messages::no_files(.0.display()))]
    Empty(PathBuf),
    #[error("{}", messages::not_a_folder(.0.display()))]
    NotAFolder(PathBuf),
    #[error("{0}")]
    Walk(String),
}

impl UploadError {
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Read(path, error) => near::instead_of(path, error),
            Self::LinkLeaves(..) => Some(messages::link_leaves_next()),
            Self::Empty(..) => Some(messages::no_files_next()),
            _ => None,
        }
    }
}

/// A file to upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it will stand in the manifest.
    pub path: String,
    pub file: PathBuf,
    pub size: u64,
    pub executable: bool,
}

/// A code folder.
pub fn walk_code(root: &Path) -> Result<Vec<Found>, UploadError> {
    let canonical = canonical_folder(root)?;
    // Inside a repository the ignore files above the folder count as they do for git; elsewhere nothing
    // above it is looked at, so that somebody's ~/.gitignore never empties an upload.
    let in_repository = canonical.ancestors().any(|folder| folder.join(".git").exists());
    let walk = ignore::WalkBuilder::new(root)
        .standard_filters(false)
        .git_ignore(true)
        .parents(in_repository)
        .require_git(in_repository)
        .add_custom_ignore_filename(".dureignore")
        .follow_links(true)
        .sort_by_file_path(Path::cmp)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    let mut found = Vec::new();
    for entry in walk {
        let entry = entry.map_err(walk_error)?;
        if entry.depth() > 0 {
            found.extend(look(root, &canonical, entry.path(), entry.path_is_symlink())?);
        }
    }
    if found.is_empty() { Err(UploadError::Empty(root.to_owned())) } else { Ok(found) }
}

/// A dataset: one file, or all of a folder.
pub fn walk_data(source: &Path) -> Result<Vec<Found>, UploadError> {
    let facts = fs::metadata(source).map_err(|error| UploadError::Read(source.to_owned(), error))?;
    if !facts.is_dir() {
        let name = source.file_name().ok_or_else(|| UploadError::Name(source.to_owned()))?;
        return Ok(vec![plain_file(Path::new(name), source, &facts)?]);
    }
    let canonical = canonical_folder(source)?;
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(source).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| match (error.path(), error.io_error()) {
            (Some(path), Some(fault)) => unreadable(path, fault.kind().into()),
            // A link that leads to a folder above itself.
            _ => UploadError::Walk(error.to_string()),
        })?;
        if entry.depth() > 0 {
            found.extend(look(source, &canonical, entry.path(), entry.path_is_symlink())?);
        }
    }
    if found.is_empty() { Err(UploadError::Empty(source.to_owned())) } else { Ok(found) }
}

fn canonical_folder(root: &Path) -> Result<PathBuf, UploadError> {
    let canonical = root.canonicalize().map_err(|error| UploadError::Read(root.to_owned(), error))?;
    if canonical.is_dir() { Ok(canonical) } else { Err(UploadError::NotAFolder(root.to_owned())) }
}

fn walk_error(error: ignore::Error) -> UploadError {
    let mut inner = &error;
    let mut path = None;
    loop {
        match inner {
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => inner = err,
            ignore::Error::WithPath { path: at, err } => {
                path = Some(at.clone());
                inner = err;
            }
            ignore::Error::Io(fault) => {
                return match path {
                    Some(path) => unreadable(&path, fault.kind().into()),
                    None => UploadError::Walk(error.to_string()),
                };
            }
            _ => return UploadError::Walk(error.to_string()),
        }
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> UploadError {
    let link = fs::symlink_metadata(path).is_ok_and(|facts| facts.is_symlink());
    if link && error.kind() == std::io::ErrorKind::NotFound {
        UploadError::LinkBroken(path.to_owned())
    } else {
        UploadError::Read(path.to_owned(), error)
    }
}

/// Looks at one thing of a folder: a file, nothing (a folder), or a fault.
fn look(root: &Path, canonical: &Path, path: &Path, link: bool) -> Result<Option<Found>, UploadError> {
    if link {
        let target = path.canonicalize().map_err(|error| unreadable(path, error))?;
        if !target.starts_with(canonical) {
            return Err(UploadError::LinkLeaves(path.to_owned(), target));
        }
    }
    let facts = fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if facts.is_dir() {
        return Ok(None);
    }
    let inner = path.strip_prefix(root).map_err(|_| UploadError::Name(path.to_owned()))?;
    plain_file(inner, path, &facts).map(Some)
}

fn plain_file(inner: &Path, path: &Path, facts: &fs::Metadata) -> Result<Found, UploadError> {
    let kind = facts.file_type();
    if !kind.is_file() {
        let kind = match kind {
            kind if kind.is_fifo() => "named pipe",
            kind if kind.is_socket() => "socket",
            _ => "device",
        };
        return Err(UploadError::Odd(path.to_owned(), kind));
    }
    let name = inner.to_str().filter(|name| is_inner_path(name)).ok_or_else(|| UploadError::Name(path.to_owned()))?;
    let executable = facts.permissions().mode() & 0o100 != 0;
    Ok(Found { path: name.to_owned(), file: path.to_owned(), size: facts.len(), executable })
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn paths(found: Result<Vec<Found>, UploadError>) -> Vec<String> {
        found.unwrap().into_iter().map(|found| found.path).collect()
    }

    #[test]
    fn code_leaves_out_what_is_ignored_and_the_repository_itself() {
        let folder = folder(&[
            ("train.py", "x"),
            (".env.example", "kept though hidden"),
            ("run.log", "ignored by git"),
            ("big/data.bin", "ignored for Dure only"),
            ("lib/a.py", "x"),
            ("lib/b.tmp", "ignored below"),
            (".git/config", "never"),
            (".gitignore", "*.log\n"),
            (".dureignore", "big/\n"),
            ("lib/.gitignore", "*.tmp\n"),
        ]);
        assert_eq!(
            paths(walk_code(folder.path())),
            [".dureignore", ".env.example", ".gitignore", "lib/.gitignore", "lib/a.py", "train.py"]
        );
    }

    #[test]
    fn ignore_files_above_count_only_inside_a_repository() {
        let folder = folder(&[(".gitignore", "*.log\n"), ("code/a.py", "x"), ("code/b.log", "x")]);
        assert_eq!(paths(walk_code(&folder.path().join("code"))), ["a.py", "b.log"]);
        fs::create_dir(folder.path().join(".git")).unwrap();
        assert_eq!(paths(walk_code(&folder.path().join("code"))), ["a.py"]);
    }

    #[test]
    fn a_dataset_is_taken_whole() {
        let folder = folder(&[("a.log", "x"), (".gitignore", "*\n"), ("deep/er/b", "x")]);
        assert_eq!(paths(walk_data(folder.path())), [".gitignore", "a.log", "deep/er/b"]);
        assert_eq!(paths(walk_data(&folder.path().join("a.log"))), ["a.log"]);
    }

    #[test]
    fn links_inside_are_followed_and_links_that_leave_are_refused_by_name() {
        let outside = folder(&[("secret", "x")]);
        let folder = folder(&[("a.py", "x"), ("lib/b.py", "y")]);
        symlink("lib/b.py", folder.path().join("c.py")).unwrap();
        assert_eq!(paths(walk_code(folder.path())), ["a.py", "c.py", "lib/b.py"]);
        assert_eq!(paths(walk_data(folder.path())), ["a.py", "c.py", "lib/b.py"]);
        let links = [outside.path().join("secret"), outside.path().to_owned(), PathBuf::from("../../../../../../etc")];
        for target in links {
            let link = folder.path().join("leak");
            symlink(&target, &link).unwrap();
            for found in [walk_code(folder.path()), walk_data(folder.path())] {
                assert!(matches!(found, Err(UploadError::LinkLeaves(path, _)) if path == link), "{}", target.display());
            }
            fs::remove_file(link).unwrap();
        }
    }

    #[test]
    fn a_link_to_nothing_and_a_loop_are_faults_not_hangs() {
        let folder = folder(&[("a.py", "x")]);
        let link = folder.path().join("gone");
        symlink("nowhere", &link).unwrap();
        for found in [walk_code(folder.path()), walk_data(folder.path())] {
            assert!(matches!(found, Err(UploadError::LinkBroken(path)) if path == link));
        }
        fs::remove_file(&link).unwrap();
        symlink(".", &link).unwrap();
        assert!(walk_code(folder.path()).is_err());
        assert!(walk_data(folder.path()).is_err());
    }

    #[test]
    fn sockets_and_devices_are_refused() {
        let folder = folder(&[("a.py", "x")]);
        let socket = folder.path().join("s");
        let _listener = UnixListener::bind(&socket).unwrap();
        for found in [walk_code(folder.path()), walk_data(folder.path())] {
            assert!(matches!(found, Err(UploadError::Odd(path, "socket")) if path == socket));
        }
        assert!(matches!(walk_data(Path::new("/dev/null")), Err(UploadError::Odd(_, "device"))));
    }

    #[test]
    fn nothing_to_upload_is_said() {
        let folder = folder(&[(".gitignore", "*\n")]);
        assert!(matches!(walk_code(folder.path()), Err(UploadError::Empty(_))));
        assert!(matches!(walk_code(&folder.path().join("none")), Err(UploadError::Read(..))));
        assert!(matches!(walk_code(&folder.path().join(".gitignore")), Err(UploadError::NotAFolder(_))));
    }
}
