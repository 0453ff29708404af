//! Which project may name which content, and manifests. Content is kept once for all projects, so knowing a digest
//! opens nothing: a project has what it has uploaded, and what its own runs have made.

use dure_types::{Digest, FileEntry, Manifest, Name};
use serde::Serialize;

use crate::{
    Scope, Store, StoreError, Tx,
    dialect::{Int, Text},
    row::{Columns, Link, clean, sql, to_json, whole},
};

#[derive(Serialize)]
struct Blob<'a> {
    digest: &'a str,
    size: i64,
}

impl Tx {
    /// The project has shown that it has this content.
    pub async fn grant_blobs(&mut self, scope: &Scope, blobs: &[(Digest, u64)]) -> Result<(), StoreError> {
        if blobs.is_empty() {
            return Ok(());
        }
        let blobs: Vec<_> =
            blobs.iter().map(|(digest, size)| Blob { digest: digest.as_str(), size: whole(*size) }).collect();
        let rows = self.dialect().rows(&[("digest", Text), ("size", Int)]);
        sql(format!(
            "INSERT INTO blob_grants (digest, size, domain, project, created_by, created_at) \
             SELECT j.digest, j.size, $2, $3, $4, $5 FROM {rows} WHERE TRUE ON CONFLICT DO NOTHING"
        ))
        .bind(to_json(&blobs)?)
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(clean(&scope.actor))
        .bind(scope.at.micros())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Keeps a manifest whose every file the project has, with the size that it says.
    pub async fn record_manifest(&mut self, scope: &Scope, manifest: &Manifest) -> Result<Digest, StoreError> {
        // Checked again here: whoever reads one may rely on it, paths above all.
        let manifest = Manifest::new(manifest.files.clone()).map_err(|error| StoreError::Invalid(error.to_string()))?;
        let missing = self.link().missing(&scope.project, &manifest.files).await?;
        if !missing.is_empty() {
            return Err(StoreError::BlobsMissing(missing));
        }
        let content = String::from_utf8(manifest.to_bytes()).map_err(|error| StoreError::Invalid(error.to_string()))?;
        let digest = manifest.digest();
        sql("INSERT INTO manifests (digest, content, files, bytes, domain, project, created_by, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING"
            .to_owned())
        .bind(digest.to_string())
        .bind(content)
        .bind(whole(manifest.files.len() as u64))
        .bind(whole(manifest.size()))
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(clean(&scope.actor))
        .bind(scope.at.micros())
        .execute(self.connection())
        .await?;
        Ok(digest)
    }

    pub async fn manifest(&mut self, project: &Name, digest: &Digest) -> Result<Manifest, StoreError> {
        self.link().manifest(project, digest).await
    }
}

impl Store {
    /// Which of these the project does not have, each once, in the order in which they were asked for.
    pub async fn missing(&self, project: &Name, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let blobs: Vec<_> = digests.iter().map(|digest| (digest, None)).collect();
        self.reader().await?.link().missing_of(project, &blobs).await
    }

    pub async fn manifest(&self, project: &Name, digest: &Digest) -> Result<Manifest, StoreError> {
        self.reader().await?.link().manifest(project, digest).await
    }
}

impl Link<'_> {
    async fn missing(&mut self, project: &Name, files: &[FileEntry]) -> Result<Vec<Digest>, StoreError> {
        let blobs: Vec<_> = files.iter().map(|file| (&file.digest, Some(file.size))).collect();
        self.missing_of(project, &blobs).await
    }

    async fn missing_of(
        &mut self,
        project: &Name,
        blobs: &[(&Digest, Option<u64>)],
    ) -> Result<Vec<Digest>, StoreError> {
        let wanted: Vec<_> = blobs.iter().map(|(digest, _)| Blob { digest: digest.as_str(), size: 0 }).collect();
        let rows = self.dialect.rows(&[("digest", Text)]);
        let query = sql(format!(
            "SELECT g.digest, g.size FROM blob_grants g WHERE g.project = $2 AND g.digest IN (SELECT j.digest FROM {rows})"
        ));
        let query = query.bind(to_json(&wanted)?).bind(project.to_string());
        let mut sizes = std::collections::HashMap::new();
        for row in query.fetch_all(&mut *self.connection).await? {
            sizes.insert(row.text("digest")?, row.number::<u64>("size")?);
        }
        let mut missing: Vec<Digest> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for (digest, size) in blobs {
            match (sizes.get(digest.as_str()), size) {
                (Some(has), Some(says)) if has != says => {
                    return Err(StoreError::Invalid(format!("{} has {has} bytes, not {says}", digest.short())));
                }
                (Some(_), _) => {}
                (None, _) if seen.insert(*digest) => missing.push((*digest).clone()),
                (None, _) => {}
            }
        }
        Ok(missing)
    }

    async fn manifest(&mut self, project: &Name, digest: &Digest) -> Result<Manifest, StoreError> {
        let query = sql("SELECT content FROM manifests WHERE project = $1 AND digest = $2".to_owned());
        let query = query.bind(project.to_string()).bind(digest.to_string());
        match query.fetch_optional(&mut *self.connection).await? {
            Some(row) => row.json("content"),
            None => Err(StoreError::not_found(format!("manifest {}", digest.short()))),
        }
    }
}
