//! Content by its digest, and manifests: the immutable lists of files that code, datasets and model
//! versions are.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// SHA-256 of some content, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    pub fn of(content: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(content)))
    }

    /// From the 32 bytes that a streaming hash ended with.
    pub fn from_hash(hash: impl AsRef<[u8]>) -> Self {
        Self(hex::encode(hash))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            Ok(Self(text.to_owned()))
        } else {
            Err("not a SHA-256 digest (64 lower-case hexadecimal digits)".to_owned())
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Relative, `/` between its parts.
    pub path: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// An immutable list of files, sorted by path; its digest is its identity.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub files: Vec<FileEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("`{0}` is not a path inside a folder")]
    Path(String),
    #[error("`{0}` stands in it twice")]
    Twice(String),
    #[error("`{0}` is both a file and a folder")]
    FileAndFolder(String),
}

impl Manifest {
    /// Sorted and checked: no path leads outside, none stands twice, none is a file and a folder.
    pub fn new(mut files: Vec<FileEntry>) -> Result<Self, ManifestError> {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut folders = BTreeSet::new();
        for file in &files {
            if !is_inner_path(&file.path) {
                return Err(ManifestError::Path(file.path.chars().take(200).collect()));
            }
            let mut folder = file.path.as_str();
            while let Some((parent, _)) = folder.rsplit_once('/') {
                folders.insert(parent);
                folder = parent;
            }
        }
        for pair in files.windows(2) {
            if pair[0].path == pair[1].path {
                return Err(ManifestError::Twice(pair[0].path.clone()));
            }
        }
        if let Some(both) = files.iter().find(|file| folders.contains(file.path.as_str())) {
            return Err(ManifestError::FileAndFolder(both.path.clone()));
        }
        Ok(Self { files })
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// The canonical form that is stored and hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Whether a path stays inside the folder that it is joined to, on any machine.
pub fn is_inner_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 4096
        && !path.contains(['\0', '\\', '\n', '\r'])
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 255)
}

/// Which of these does this project still have to upload?
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MissingRequest {
    pub digests: Vec<Digest>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MissingResponse {
    pub missing: Vec<MissingBlob>,
}

/// A blob to upload, and how much of it an interrupted upload has already brought.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MissingBlob {
    pub digest: Digest,
    pub offset: u64,
}

/// Where an upload stands after a part.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UploadStatus {
    pub offset: u64,
    pub complete: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ManifestCreated {
    pub digest: Digest,
    pub files: u64,
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> FileEntry {
        FileEntry { path: path.to_owned(), digest: Digest::of(b""), size: 0, executable: false }
    }

    #[test]
    fn order_of_upload_does_not_change_a_manifest() {
        let one = Manifest::new(vec![entry("b"), entry("a/c")]).unwrap();
        let other = Manifest::new(vec![entry("a/c"), entry("b")]).unwrap();
        assert_eq!(one.digest(), other.digest());
    }

    #[test]
    fn paths_that_lead_outside_or_collide_are_refused() {
        for bad in ["../x", "/etc/passwd", "a/../../b", "a//b", "./a", "", "a\\b", "a\0"] {
            assert!(Manifest::new(vec![entry(bad)]).is_err(), "{bad}");
        }
        assert!(Manifest::new(vec![entry("a"), entry("a")]).is_err());
        assert!(Manifest::new(vec![entry("a"), entry("a.txt"), entry("a/b")]).is_err());
    }
}
