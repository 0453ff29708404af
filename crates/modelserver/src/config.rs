//! What a model server is told: which model, under which name, and where to listen.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

pub const DEFAULT_MAX_BODY: usize = 64 << 20;

#[derive(Debug, Clone)]
pub struct Config {
    /// The `.onnx` file.
    pub model: PathBuf,
    /// The name and version that clients ask for.
    pub name: String,
    pub version: String,
    /// `libonnxruntime.so*`; see [`crate::find_library`].
    pub library: PathBuf,
    /// Threads inside one operator, from the CPU request.
    pub threads: usize,
    pub listen: Listen,
    /// The largest request body, in bytes.
    pub max_body: usize,
}

/// `unix:/path` or `tcp:host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            // sun_path has 108 bytes, the last of them NUL.
            return match path.len() {
                0 => Err("`unix:` needs a path, as in unix:/run/model.sock".to_owned()),
                1..108 => Ok(Self::Unix(PathBuf::from(path))),
                length => Err(format!("a Unix socket path may have 107 bytes; this one has {length}: {path}")),
            };
        }
        let address =
            text.strip_prefix("tcp:").ok_or_else(|| format!("`{text}` is neither unix:/path nor tcp:host:port"))?;
        let address =
            address.strip_prefix("localhost:").map_or_else(|| address.to_owned(), |port| format!("127.0.0.1:{port}"));
        address
            .parse()
            .map(Self::Tcp)
            .map_err(|_| format!("`{address}` is not an IP address and port, as in tcp:127.0.0.1:8080"))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}
