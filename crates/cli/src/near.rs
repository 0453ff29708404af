//! What was perhaps meant: a file beside the one that is not there, a name that is nearly the same.

use std::{fs, io, path::Path};

use dure_types::spec::parse::nearest;

use crate::{messages, output::format};

/// More entries of a folder than this are not looked at.
const MOST: usize = 2000;

/// What to try instead of a path that is not there.
pub fn instead_of(path: &Path, error: &io::Error) -> Option<String> {
    if error.kind() != io::ErrorKind::NotFound {
        return None;
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return Some(messages::no_folder(folder.display()));
    };
    let names: Vec<String> =
        entries.take(MOST).filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let near = path.file_name().and_then(|name| nearest(name.to_str()?, names.iter().map(String::as_str)));
    Some(match near {
        Some(near) => messages::did_you_mean(format::clean(&path.with_file_name(near).display().to_string())),
        None => {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            messages::looked_in(format::clean(&folder.display().to_string()))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_nearly_called_so_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("train.yaml"), "").unwrap();
        let at = |name: &str| instead_of(&folder.path().join(name), &io::ErrorKind::NotFound.into());
        assert!(at("trian.yaml").is_some_and(|next| next.contains("train.yaml")));
        assert!(at("other").is_some_and(|next| next.contains(&folder.path().display().to_string())));
        assert!(at("no/such").is_some_and(|next| next.contains("no")));
        assert_eq!(instead_of(folder.path(), &io::ErrorKind::PermissionDenied.into()), None);
    }
}
