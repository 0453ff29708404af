//! Which control plane, as whom, in which project: profiles in `profiles.toml`, and what the command line
//! and the environment say instead.
//!
//! The file holds tokens: it is written with mode 0600 and replaced as a whole, never in part.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use dure_types::Name;
use serde::{Deserialize, Serialize};

use crate::{exit::CliError, messages};

pub const DEFAULT: &str = "default";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub url: String,
    pub token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// The certificate to trust, for a control plane with a self-signed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

pub type Profiles = BTreeMap<String, Profile>;

/// What a command talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub url: String,
    pub token: String,
    pub project: Name,
    pub ca: Option<PathBuf>,
    /// The profile that it came from, if one.
    pub profile: Option<String>,
}

/// What stands in the way of a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("{}", messages::no_profile())]
    None,
    #[error("{}", messages::profile_unknown(.0, .1))]
    Unknown(String, String),
    #[error("{}", messages::no_token(.0))]
    NoToken(String),
    #[error("DURE_PROJECT: {0}")]
    Project(String),
}

/// `$DURE_CONFIG_DIR`, else `$XDG_CONFIG_HOME/dure`, else `~/.config/dure`.
pub fn folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|path| !path.as_os_str().is_empty());
    set("DURE_CONFIG_DIR")
        .or_else(|| set("XDG_CONFIG_HOME").filter(|path| path.is_absolute()).map(|path| path.join("dure")))
        .or_else(|| set("HOME").map(|path| path.join(".config/dure")))
}

pub fn path() -> Result<PathBuf, CliError> {
    folder(|name| std::env::var_os(name).map(PathBuf::from))
        .map(|folder| folder.join("profiles.toml"))
        .ok_or_else(|| CliError::usage(messages::no_home()))
}

pub fn read(path: &Path) -> Result<Profiles, CliError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Profiles::new()),
        Err(error) => return Err(CliError::usage(messages::cannot_read(path.display(), error))),
    };
    toml::from_str(&text).map_err(|error| CliError::usage(messages::profile_broken(path.display(), error.message())))
}

/// Replaces one profile and keeps the others.
pub fn write(path: &Path, name: &str, profile: Profile) -> Result<(), CliError> {
    let mut profiles = read(path)?;
    profiles.insert(name.to_owned(), profile);
    replace(path, &profiles).map_err(|error| CliError::io(messages::cannot_write(path.display(), &error), error))
}

fn replace(path: &Path, profiles: &Profiles) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let text = toml::to_string(profiles).map_err(io::Error::other)?;
    let mut file = tempfile::Builder::new()
        .prefix(".profiles")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// What the command line said, then what the environment says, then the profile.
pub fn choose(
    profiles: &Profiles,
    name: Option<&str>,
    project: Option<&Name>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Target, ProfileError> {
    let set = |key| variable(key).filter(|value| !value.is_empty());
    let named = name.map(str::to_owned).or_else(|| set("DURE_PROFILE"));
    // A profile that was asked for by name wins over an address that happens to be set, its token too.
    let (url, token) = if name.is_some() { (None, None) } else { (set("DURE_URL"), set("DURE_TOKEN")) };
    let chosen = named.clone().unwrap_or_else(|| DEFAULT.to_owned());
    let profile = profiles.get(&chosen);
    if profile.is_none() && named.is_some() && url.is_none() {
        let known: Vec<_> = profiles.keys().map(String::as_str).collect();
        return Err(ProfileError::Unknown(chosen, known.join(", ")));
    }
    let from_environment = set("DURE_PROJECT")
        .map(|text| text.parse::<Name>().map_err(|error| ProfileError::Project(error.to_string())))
        .transpose()?;
    let project = project.cloned().or(from_environment).or_else(|| profile.and_then(|profile| profile.project.clone()));
    let project = match project {
        Some(project) => project,
        None => Name::new(DEFAULT).map_err(|error| ProfileError::Project(error.to_string()))?,
    };
    match (url, profile) {
        (Some(url), profile) => {
            // A token is for the address that it came with and is sent to no other.
            let own = profile.filter(|profile| profile.url.trim_end_matches('/') == url.trim_end_matches('/'));
            let token = token.or_else(|| own.map(|profile| profile.token.clone()));
            let ca = own.and_then(|profile| profile.ca.clone());
            Ok(Target {
                token: token.ok_or_else(|| ProfileError::NoToken(url.clone()))?,
                url,
                project,
                ca,
                profile: None,
            })
        }
        (None, Some(profile)) => Ok(Target {
            url: profile.url.clone(),
            token: token.unwrap_or_else(|| profile.token.clone()),
            project,
            ca: profile.ca.clone(),
            profile: Some(chosen),
        }),
        (None, None) => Err(ProfileError::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(url: &str, token: &str) -> Profile {
        Profile { url: url.to_owned(), token: token.to_owned(), project: None, ca: None }
    }

    fn two() -> Profiles {
        [(DEFAULT.to_owned(), profile("http://a", "one")), ("lab".to_owned(), profile("http://lab", "two"))].into()
    }

    fn set(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_profile() {
        let project = Name::new("vision").unwrap();
        let target = choose(&two(), None, None, set(&[])).unwrap();
        assert_eq!(
            (target.url.as_str(), target.token.as_str(), target.project.as_str()),
            ("http://a", "one", "default")
        );
        let target = choose(&two(), None, None, set(&[("DURE_PROFILE", "lab"), ("DURE_PROJECT", "speech")])).unwrap();
        assert_eq!((target.url.as_str(), target.project.as_str()), ("http://lab", "speech"));
        let target =
            choose(&two(), Some("lab"), Some(&project), set(&[("DURE_URL", "http://b"), ("DURE_PROJECT", "speech")]))
                .unwrap();
        assert_eq!(
            (target.url.as_str(), target.token.as_str(), target.project.as_str()),
            ("http://lab", "two", "vision")
        );
        let target =
            choose(&Profiles::new(), None, None, set(&[("DURE_URL", "http://b"), ("DURE_TOKEN", "t")])).unwrap();
        assert_eq!((target.url.as_str(), target.token.as_str()), ("http://b", "t"));
    }

    #[test]
    fn a_token_is_never_sent_to_another_address() {
        assert_eq!(
            choose(&two(), None, None, set(&[("DURE_URL", "http://b")])),
            Err(ProfileError::NoToken("http://b".to_owned()))
        );
        assert_eq!(choose(&two(), None, None, set(&[("DURE_URL", "http://a/")])).unwrap().token, "one");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(choose(&Profiles::new(), None, None, set(&[])), Err(ProfileError::None));
        assert!(
            matches!(choose(&two(), Some("x"), None, set(&[])), Err(ProfileError::Unknown(_, known)) if known == "default, lab")
        );
    }

    #[test]
    fn a_profile_is_kept_from_others_and_does_not_disturb_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/profiles.toml");
        write(&path, DEFAULT, profile("http://a", "one")).unwrap();
        write(&path, "lab", profile("http://lab", "two")).unwrap();
        write(&path, DEFAULT, profile("http://c", "three")).unwrap();
        let profiles = read(&path).unwrap();
        assert_eq!(profiles.len(), 2);
        assert_eq!(profiles[DEFAULT].token, "three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn the_folder_is_where_the_environment_says() {
        let at = |pairs: &'static [(&str, &str)]| folder(move |name| set(pairs)(name).map(PathBuf::from));
        assert_eq!(at(&[("DURE_CONFIG_DIR", "/c"), ("HOME", "/h")]), Some(PathBuf::from("/c")));
        assert_eq!(at(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]), Some(PathBuf::from("/x/dure")));
        assert_eq!(at(&[("HOME", "/h")]), Some(PathBuf::from("/h/.config/dure")));
        assert_eq!(at(&[]), None);
    }
}
