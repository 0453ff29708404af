//! Brings uv from the package index: one wheel, by version and digest, nothing else.
//!
//! The digest stands here, so the index need not be trusted; it may be a mirror of any kind.

use std::fs::File;
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Response, Url, header};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::BuildError;
use crate::host::without_credentials;
use crate::tree;

pub(crate) const VERSION: &str = "0.13.9";
const LARGEST_PAGE: usize = 64 << 20;
const LARGEST_WHEEL: usize = 96 << 20;
const LARGEST_BINARY: u64 = 256 << 20;
const TIME_LIMIT: Duration = Duration::from_secs(300);

struct Wheel {
    file: &'static str,
    sha256: &'static str,
}

#[cfg(target_arch = "x86_64")]
const WHEEL: Option<Wheel> = Some(Wheel {
    file: "uv-0.13.9-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256: "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
});
#[cfg(target_arch = "aarch64")]
const WHEEL: Option<Wheel> = Some(Wheel {
    file: "uv-0.13.9-py3-none-manylinux_2_28_aarch64.whl",
    sha256: "ecb6028d79dc96fbeafffe5c8af62a7099487ebc05a701e76714eebcffd06375",
});
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const WHEEL: Option<Wheel> = None;

/// Where a fetched uv is kept below the folder of tools.
pub(crate) fn place(tools: &Path) -> PathBuf {
    tools.join(format!("uv-{VERSION}")).join("uv")
}

/// Fetches uv into `tools` and returns its path and the size of what was loaded; none where another build,
/// which this one waited for, has just brought it.
pub(crate) async fn fetch(index: &str, tools: &Path) -> Result<(PathBuf, Option<u64>), BuildError> {
    let lock = lock(tools.to_owned()).await?;
    let there = place(tools);
    let fetched = if there.is_file() { Ok((there, None)) } else { load_and_unpack(index, tools).await };
    drop(lock);
    fetched
}

/// One fetch at a time: a program cannot be started while somebody writes it.
async fn lock(tools: PathBuf) -> Result<File, BuildError> {
    let path = tools.join("fetch.lock");
    let failed = |error| BuildError::io("locking", &path, error);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    let waiting = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    waiting.await.map_err(|error| no_uv(error.to_string()))?.map_err(failed)
}

async fn load_and_unpack(index: &str, tools: &Path) -> Result<(PathBuf, Option<u64>), BuildError> {
    let Some(wheel) = WHEEL else {
        return Err(no_uv("there is no build of it for this kind of processor"));
    };
    let client = Client::builder()
        .timeout(TIME_LIMIT)
        .user_agent(concat!("dure/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| no_uv(plainest(&error)))?;
    let index = index.trim_end_matches('/');
    let page = Url::parse(&format!("{index}/uv/"))
        .map_err(|error| BuildError::Index { url: without_credentials(index), reason: error.to_string() })?;
    let unreachable = |reason: String| BuildError::Index { url: without_credentials(index), reason };
    let address = find(&client, &page, wheel.file).await.map_err(unreachable)?;
    let Some(address) = address else {
        return Err(no_uv(format!("the index has no {}", wheel.file)));
    };
    let content = load(&client, address, "*/*", LARGEST_WHEEL).await;
    let content = content.map_err(unreachable)?.1;
    let digest = hex::encode(Sha256::digest(&content));
    if digest != wheel.sha256 {
        return Err(BuildError::Hash {
            reason: format!("{}: expected sha256 {}, got {digest}", wheel.file, wheel.sha256),
        });
    }
    let size = content.len() as u64;
    let target = place(tools);
    let unpacked = target.clone();
    let done = tokio::task::spawn_blocking(move || unpack(&content, &unpacked)).await;
    match done {
        Ok(result) => result.map(|()| (target, Some(size))),
        Err(error) => Err(no_uv(error.to_string())),
    }
}

fn no_uv(reason: impl Into<String>) -> BuildError {
    BuildError::NoUv { reason: reason.into() }
}

#[derive(Deserialize)]
struct Listing {
    files: Vec<ListedFile>,
}

#[derive(Deserialize)]
struct ListedFile {
    filename: String,
    url: String,
}

/// The address of a file in the index's page, which is JSON or, with older mirrors, HTML.
async fn find(client: &Client, page: &Url, file: &str) -> Result<Option<Url>, String> {
    let accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.1";
    let (base, content) = load(client, page.clone(), accept, LARGEST_PAGE).await?;
    let address = match serde_json::from_slice::<Listing>(&content) {
        Ok(listing) => {
            let mut files = listing.files.into_iter();
            files.find(|one| one.filename == file).map(|one| one.url)
        }
        Err(_) => address_in_html(&String::from_utf8_lossy(&content), file),
    };
    let Some(address) = address else {
        return Ok(None);
    };
    let mut url = base.join(&address).map_err(|error| error.to_string())?;
    // A private index gives absolute addresses without the credentials that it wants again.
    if url.origin() == page.origin() && url.username().is_empty() && !page.username().is_empty() {
        let _ = url.set_username(page.username());
        let _ = url.set_password(page.password());
    }
    Ok(Some(url))
}

fn address_in_html(page: &str, file: &str) -> Option<String> {
    page.split("href=").skip(1).find_map(|rest| {
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let address = rest[1..].split(quote).next()?;
        let path = address.split(['#', '?']).next()?;
        let name = path.rsplit('/').next()?;
        (name == file).then(|| address.replace("&amp;", "&"))
    })
}

/// Reads an answer up to a size and returns it with the address that gave it in the end.
async fn load(client: &Client, url: Url, accept: &str, most: usize) -> Result<(Url, Vec<u8>), String> {
    let sent = client.get(url).header(header::ACCEPT, accept).send().await;
    let mut response = sent.and_then(Response::error_for_status).map_err(|error| plainest(&error.without_url()))?;
    let address = response.url().clone();
    let mut content = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if content.len() + chunk.len() <= most => {
                content.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => return Err(format!("it sent more than {most} bytes")),
            Ok(None) => return Ok((address, content)),
            Err(error) => return Err(plainest(&error.without_url())),
        }
    }
}

/// The innermost cause, which is the one that a person can act on.
fn plainest(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// Takes the one program out of the wheel. Its name in the archive is known, and the name on disk
/// is ours, so no path of the archive is ever followed.
fn unpack(wheel: &[u8], target: &Path) -> Result<(), BuildError> {
    let damaged = |error: String| no_uv(format!("its wheel is damaged: {error}"));
    let mut archive = zip::ZipArchive::new(Cursor::new(wheel)).map_err(|error| damaged(error.to_string()))?;
    let member = format!("uv-{VERSION}.data/scripts/uv");
    let entry = archive.by_name(&member).map_err(|error| damaged(error.to_string()))?;
    let folder = target.parent().unwrap_or(target);
    std::fs::create_dir_all(folder).map_err(|error| BuildError::io("making", folder, error))?;
    // A name of its own for each process: two builds may fetch at once, and the last one wins.
    let partial = target.with_extension(format!("partial-{}", tree::unique()));
    let write = || -> std::io::Result<()> {
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(&partial)?;
        let mut limited = entry.take(LARGEST_BINARY + 1);
        let size = std::io::copy(&mut limited, &mut file)?;
        if size > LARGEST_BINARY {
            return Err(std::io::Error::other("uv in the wheel is too large"));
        }
        file.flush()?;
        file.sync_all()?;
        // A program that anybody has open for writing cannot be started.
        drop(file);
        std::fs::rename(&partial, target)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&partial);
        BuildError::io("writing", target, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wheel_is_found_in_the_page_of_an_older_mirror() {
        let page =
            "<a href=\"../../x/other.whl#sha256=1\">o</a> <a href='../../x/wanted.whl?a=1&amp;b=2#sha256=2'>w</a>";
        assert_eq!(address_in_html(page, "wanted.whl").as_deref(), Some("../../x/wanted.whl?a=1&b=2#sha256=2"));
        assert_eq!(address_in_html(page, "wanted"), None);
        assert_eq!(address_in_html("href=", "wanted"), None);
    }

    #[test]
    fn a_wheel_that_is_no_archive_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("folder");
        let target = folder.path().join("uv");
        let error = unpack(b"not a zip", &target).expect_err("damaged");
        assert!(error.to_string().contains("damaged"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 0);
    }
}
