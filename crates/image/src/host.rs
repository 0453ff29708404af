//! What a build takes over from the user: where programs are, the package index, proxies and
//! certificates. Nothing else of the user's environment reaches uv or a package's build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::process::Command;

pub const DEFAULT_INDEX: &str = "https://pypi.org/simple";

/// Of these the order is that of uv and pip.
const INDEX_VARIABLES: [&str; 3] = ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"];
const KEPT_VARIABLES: [&str; 10] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// The user's side of a build. It may hold credentials (in the index's address): where it is
/// written to a file, only its owner may read that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub path: Vec<PathBuf>,
    pub home: Option<PathBuf>,
    /// The package index that the user's uv or pip is set to.
    pub index_url: Option<String>,
    /// Proxies and certificates.
    pub variables: BTreeMap<String, String>,
}

impl Host {
    /// Reads what counts from an environment, and pip's configuration for the index.
    pub fn of_user(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let environment: BTreeMap<String, String> =
            environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let home = environment.get("HOME").map(PathBuf::from);
        let path = environment.get("PATH").map(String::as_str);
        let chosen = INDEX_VARIABLES.iter().find_map(|name| environment.get(*name));
        let index_url = chosen.cloned().or_else(|| {
            pip_files(&environment, home.as_deref())
                .iter()
                .filter_map(|file| std::fs::read_to_string(file).ok())
                .find_map(|text| index_of_pip_file(&text))
        });
        Self {
            path: path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default(),
            home,
            index_url,
            variables: environment.into_iter().filter(|(name, _)| KEPT_VARIABLES.contains(&name.as_str())).collect(),
        }
    }

    /// Folders of programs: the user's PATH, or the usual one. Relative ones are left out, since
    /// they would name whatever lies in the current folder.
    pub fn search_path(&self) -> Vec<PathBuf> {
        let absolute = self.path.iter().filter(|folder| folder.is_absolute());
        let mut path: Vec<PathBuf> = absolute.cloned().collect();
        if path.is_empty() {
            path = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from).to_vec();
        }
        path
    }

    /// Gives a command an environment made from nothing.
    pub(crate) fn clean(&self, command: &mut Command) {
        command.env_clear().env("LANG", "C.UTF-8");
        if let Ok(path) = std::env::join_paths(self.search_path()) {
            command.env("PATH", path);
        }
        if let Some(home) = &self.home {
            command.env("HOME", home);
        }
        command.envs(&self.variables);
    }
}

/// pip's files, the strongest first.
fn pip_files(environment: &BTreeMap<String, String>, home: Option<&Path>) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    files.extend(environment.get("PIP_CONFIG_FILE").map(PathBuf::from));
    if let Some(home) = home {
        let config = environment.get("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
        files.push(config.join("pip/pip.conf"));
        files.push(home.join(".pip/pip.conf"));
    }
    files.push(PathBuf::from("/etc/pip.conf"));
    files
}

/// `index-url` of a pip configuration, from [global] or [install].
fn index_of_pip_file(text: &str) -> Option<String> {
    let mut section = "";
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.trim();
        } else if let Some((key, value)) = line.split_once(['=', ':'])
            && matches!(section, "global" | "install")
            && matches!(key.trim(), "index-url" | "index_url")
            && !value.trim().is_empty()
        {
            found = Some(value.trim().to_owned());
        }
    }
    found
}

/// An address without the name and password in it, for people to read.
pub(crate) fn without_credentials(address: &str) -> String {
    match reqwest::Url::parse(address) {
        Ok(mut url) if !url.username().is_empty() || url.password().is_some() => {
            // Neither fails for an address with a host, and one with credentials has a host.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.to_string()
        }
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(variables: &[(&str, &str)]) -> Host {
        let pairs = variables.iter();
        Host::of_user(pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn only_what_a_build_needs_is_taken_over() {
        let host = host(&[
            ("PATH", "/usr/bin:relative:/bin"),
            ("HOME", "/nowhere"),
            ("HTTPS_PROXY", "http://proxy"),
            ("SSL_CERT_FILE", ""),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("PYTHONPATH", "/x"),
            ("PIP_INDEX_URL", "https://pip/simple"),
            ("UV_INDEX_URL", "https://uv/simple"),
        ]);
        assert_eq!(host.search_path(), [Path::new("/usr/bin"), Path::new("/bin")]);
        assert_eq!(host.index_url.as_deref(), Some("https://uv/simple"));
        assert_eq!(host.variables.keys().collect::<Vec<_>>(), ["HTTPS_PROXY"]);
    }

    #[test]
    fn the_index_of_pips_configuration_counts_when_no_variable_names_one() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("pip.conf");
        let text = "[list]\nindex-url = no\n[global]\ntimeout = 1\nindex-url = https://own/simple/\n";
        std::fs::write(&file, text).expect("written");
        let host = host(&[("PIP_CONFIG_FILE", &file.display().to_string())]);
        assert_eq!(host.index_url.as_deref(), Some("https://own/simple/"));
    }

    #[test]
    fn credentials_are_not_shown() {
        let shown = without_credentials("https://me:secret@host/simple/");
        assert_eq!(shown, "https://host/simple/");
        assert_eq!(without_credentials("http://h:9/simple"), "http://h:9/simple");
    }
}
