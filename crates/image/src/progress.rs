//! What a build says while it works: one line each, for people.

use std::fmt;

#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// Another build of the same environment holds the place.
    Waiting,
    /// The environment was there already.
    Reused,
    FetchedUv {
        version: String,
        bytes: u64,
    },
    FetchingPython {
        request: String,
    },
    Python {
        version: String,
        path: String,
    },
    /// The packages refused this interpreter; the next one is tried.
    PythonRefused {
        version: String,
        reason: String,
    },
    Resolved {
        packages: usize,
        seconds: f64,
    },
    /// A large file has begun.
    Downloading {
        what: String,
    },
    /// `bytes` counts the large files, which uv announces; small ones come on top.
    Downloaded {
        packages: usize,
        bytes: u64,
    },
    Building {
        what: String,
    },
    Installed {
        packages: usize,
        seconds: f64,
    },
    Compiled {
        files: usize,
        seconds: f64,
    },
    Ready {
        seconds: f64,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => write!(f, "the same environment is being built already; waiting for it"),
            Self::Reused => write!(f, "ready, built before"),
            Self::FetchedUv { version, bytes } => {
                write!(f, "fetched uv {version}, {}", megabytes(*bytes))
            }
            Self::FetchingPython { request } => write!(f, "fetching python {request}"),
            Self::Python { version, path } => write!(f, "python {version} ({path})"),
            Self::PythonRefused { version, reason } => {
                write!(f, "python {version} does not do: {reason}")
            }
            Self::Resolved { packages, seconds } => {
                write!(f, "resolved {} in {seconds:.1} s", count(*packages))
            }
            Self::Downloading { what } => write!(f, "downloading {what}"),
            Self::Downloaded { packages, bytes: 0 } => write!(f, "downloaded {}", count(*packages)),
            Self::Downloaded { packages, bytes } => {
                write!(f, "downloaded {}, about {}", count(*packages), megabytes(*bytes))
            }
            Self::Building { what } => write!(f, "building {what} from source"),
            Self::Installed { packages, seconds } => {
                write!(f, "installed {} in {seconds:.1} s", count(*packages))
            }
            Self::Compiled { files, seconds } => {
                write!(f, "bytecode compiled, {files} files in {seconds:.1} s")
            }
            Self::Ready { seconds } => write!(f, "ready {seconds:.1} s"),
        }
    }
}

fn count(packages: usize) -> String {
    let ending = if packages == 1 { "" } else { "s" };
    format!("{packages} package{ending}")
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

/// Follows uv's lines and tells what they mean.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    announced: u64,
}

impl Listener {
    pub fn hear(&mut self, line: &str) -> Option<Progress> {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("Downloading ") {
            let (name, size) = rest.strip_suffix(')')?.split_once(" (")?;
            self.announced += size_in_bytes(size)?;
            return Some(Progress::Downloading { what: format!("{name} {size}") });
        }
        if let Some(what) = line.strip_prefix("Building ") {
            return Some(Progress::Building { what: what.to_owned() });
        }
        let (head, took) = line.split_once(" in ")?;
        let seconds = duration_in_seconds(took)?;
        let words: Vec<&str> = head.split(' ').collect();
        Some(match words.as_slice() {
            ["Resolved", number, _] => Progress::Resolved { packages: number.parse().ok()?, seconds },
            ["Prepared", number, _] => {
                Progress::Downloaded { packages: number.parse().ok()?, bytes: std::mem::take(&mut self.announced) }
            }
            ["Installed", number, _] => Progress::Installed { packages: number.parse().ok()?, seconds },
            ["Bytecode", "compiled", number, _] => Progress::Compiled { files: number.parse().ok()?, seconds },
            _ => return None,
        })
    }
}

/// `8.9MiB`, `512.0KiB`
fn size_in_bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..end].parse().ok()?;
    let factor = match text[end..].trim() {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some((number * factor) as u64)
}

/// `519ms`, `3.10s`, `1m 02s`
fn duration_in_seconds(text: &str) -> Option<f64> {
    let mut total = 0.0;
    for part in text.split(' ') {
        let end = part.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = part[..end].parse().ok()?;
        total += match &part[end..] {
            "us" | "µs" => number / 1e6,
            "ms" => number / 1e3,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            _ => return None,
        };
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_uv_says_becomes_lines_for_people() {
        let said = "Using Python 3.11.2 environment at: v\nResolved 12 packages in 131ms\nDownloading scikit-learn (8.9MiB)\nDownloading scipy (33.7MiB)\n Downloaded scipy\n   Building psycopg2==2.9.10\nPrepared 12 packages in 519ms\nInstalled 1 package in 57ms\nBytecode compiled 3122 files in 1m 3.10s\n + six==1.17.0\n";
        let mut listener = Listener::default();
        let lines: Vec<String> =
            said.lines().filter_map(|line| listener.hear(line)).map(|progress| progress.to_string()).collect();
        assert_eq!(
            lines,
            [
                "resolved 12 packages in 0.1 s",
                "downloading scikit-learn 8.9MiB",
                "downloading scipy 33.7MiB",
                "building psycopg2==2.9.10 from source",
                "downloaded 12 packages, about 45 MB",
                "installed 1 package in 0.1 s",
                "bytecode compiled, 3122 files in 63.1 s",
            ]
        );
    }
}
