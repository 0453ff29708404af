//! Downloads: into a file beside the target, which takes its name only when it is whole.

use std::{path::Path, time::Duration};

use reqwest::Method;
use tokio::io::AsyncWriteExt as _;

use crate::{Client, ClientError};

/// Between two pieces of a download; the whole takes as long as it takes.
const STALLED: Duration = Duration::from_secs(60);

impl Client {
    pub(crate) async fn download(
        &self,
        parts: &[&str],
        target: &Path,
        progress: impl Fn(u64) + Send,
    ) -> Result<u64, ClientError> {
        let at_target = |error| ClientError::file(target, error);
        let mut response = self.send(Self::unlimited(self.of_project(Method::GET, parts)?)).await?;
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        std::fs::metadata(folder).map_err(|error| ClientError::file(folder, error))?;
        // Dropped on any fault, and the file with it.
        let mut builder = tempfile::Builder::new();
        builder.prefix(".dure-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temporary = builder.tempfile_in(folder).map_err(at_target)?;
        let mut file = tokio::fs::File::from_std(temporary.reopen().map_err(at_target)?);
        let mut bytes = 0;
        loop {
            let chunk = match tokio::time::timeout(STALLED, response.chunk()).await {
                Ok(chunk) => chunk.map_err(|error| self.broken(&error))?,
                Err(_) => return Err(self.unreachable("the download stands still")),
            };
            let Some(chunk) = chunk else { break };
            file.write_all(&chunk).await.map_err(at_target)?;
            bytes += chunk.len() as u64;
            progress(chunk.len() as u64);
        }
        file.sync_all().await.map_err(at_target)?;
        temporary.persist(target).map_err(|error| at_target(error.error))?;
        Ok(bytes)
    }
}
