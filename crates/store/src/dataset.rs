//! Datasets and their versions. One is deleted only while nothing names it: no run that is not over reads a version
//! of it, and no model version was made from one.

use dure_types::{
    Digest, Name, Page,
    dataset::{Dataset, DatasetQuery, DatasetVersion},
    name::{Reference, Selector},
    page::PageQuery,
};
use sqlx::any::AnyRow;

use crate::{
    Scope, Store, StoreError, Tx, page,
    row::{Columns, Conditions, Link, clean, sql, whole},
};

impl Tx {
    /// Makes the next version, and the dataset where there is none. The files that the latest version has already make
    /// none: then that one is returned, and false.
    pub async fn create_dataset_version(
        &mut self,
        scope: &Scope,
        name: &Name,
        manifest: &Digest,
        files: u64,
        bytes: u64,
    ) -> Result<(u32, bool), StoreError> {
        let found = sql("SELECT d.id, d.latest, v.manifest FROM datasets d \
             JOIN dataset_versions v ON v.dataset = d.id AND v.version = d.latest WHERE d.project = $1 AND d.name = $2"
            .to_owned())
        .bind(scope.project.to_string())
        .bind(name.to_string())
        .fetch_optional(self.connection())
        .await?;
        let (found, version) = match &found {
            Some(row) if row.text("manifest")? == manifest.as_str() => return Ok((row.number("latest")?, false)),
            Some(row) => (Some(row.int("id")?), row.number::<u32>("latest")? + 1),
            None => (None, 1),
        };
        let event =
            self.add_event(scope, "dataset", name.as_str(), "created", Some(&format!("version {version}"))).await?;
        // The number of the event that says it was made is never given again, unlike a name.
        let id = found.unwrap_or(event);
        sql("INSERT INTO datasets (id, name, latest, files, bytes, updated_at, domain, project, created_by, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $6) ON CONFLICT (id) DO UPDATE SET latest = excluded.latest, \
             files = excluded.files, bytes = excluded.bytes, updated_at = excluded.updated_at"
            .to_owned())
        .bind(id)
        .bind(name.to_string())
        .bind(i64::from(version))
        .bind(whole(files))
        .bind(whole(bytes))
        .bind(scope.at.micros())
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(clean(&scope.actor))
        .execute(self.connection())
        .await?;
        sql("INSERT INTO dataset_versions (dataset, version, manifest, files, bytes, domain, project, created_by, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
            .to_owned())
        .bind(id)
        .bind(i64::from(version))
        .bind(manifest.to_string())
        .bind(whole(files))
        .bind(whole(bytes))
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(clean(&scope.actor))
        .bind(scope.at.micros())
        .execute(self.connection())
        .await?;
        Ok((version, true))
    }

    pub async fn resolve_dataset(&mut self, project: &Name, which: &Reference) -> Result<DatasetVersion, StoreError> {
        self.link().resolve_dataset(project, which).await
    }

    pub async fn rename_dataset(&mut self, scope: &Scope, from: &Name, to: &Name) -> Result<Dataset, StoreError> {
        let (id, _) = self.link().dataset(&scope.project, from).await?;
        if from != to && self.link().find_dataset(&scope.project, to).await?.is_some() {
            return Err(StoreError::Exists { what: format!("dataset {to}") });
        }
        sql("UPDATE datasets SET name = $1, updated_at = $2 WHERE id = $3".to_owned())
            .bind(to.to_string())
            .bind(scope.at.micros())
            .bind(id)
            .execute(self.connection())
            .await?;
        self.add_event(scope, "dataset", to.as_str(), "renamed", Some(&format!("from {from}"))).await?;
        Ok(self.link().dataset(&scope.project, to).await?.1)
    }

    pub async fn delete_dataset(&mut self, scope: &Scope, name: &Name) -> Result<(), StoreError> {
        let (id, _) = self.link().dataset(&scope.project, name).await?;
        if let Some(by) = self.link().used_by(&scope.project, id).await? {
            return Err(StoreError::InUse { by });
        }
        for text in [
            "DELETE FROM run_datasets WHERE dataset = $1",
            "DELETE FROM dataset_versions WHERE dataset = $1",
            "DELETE FROM datasets WHERE id = $1",
        ] {
            sql(text.to_owned()).bind(id).execute(self.connection()).await?;
        }
        self.add_event(scope, "dataset", name.as_str(), "deleted", None).await?;
        Ok(())
    }
}

impl Store {
    /// By name; `search` is a part of it.
    pub async fn list_datasets(&self, project: &Name, wanted: &DatasetQuery) -> Result<Page<Dataset>, StoreError> {
        let limit = page::limit(wanted.limit);
        let conditions = named(project, wanted.search.as_deref(), wanted.cursor.as_deref());
        let query = conditions.query("SELECT * FROM datasets", &format!(" ORDER BY name LIMIT {}", page::fetch(limit)));
        let rows = query.fetch_all(&self.readers).await?;
        let items = rows.iter().map(|row| Ok(read(row)?.1)).collect::<Result<Vec<_>, StoreError>>()?;
        Ok(page::page(items, limit, |dataset| dataset.name.to_string()))
    }

    pub async fn dataset(&self, project: &Name, name: &Name) -> Result<Dataset, StoreError> {
        Ok(self.reader().await?.link().dataset(project, name).await?.1)
    }

    /// The newest first.
    pub async fn dataset_versions(
        &self,
        project: &Name,
        name: &Name,
        wanted: &PageQuery,
    ) -> Result<Page<DatasetVersion>, StoreError> {
        let (limit, mut reader) = (wanted.limit(), self.reader().await?);
        let (id, dataset) = reader.link().dataset(project, name).await?;
        let mut conditions = Conditions::default();
        conditions.add("dataset = ?", [id.into()]);
        if let Some(cursor) = &wanted.cursor {
            let before: i64 = cursor.parse().map_err(|_| page::bad_cursor())?;
            conditions.add("version < ?", [before.into()]);
        }
        let query = conditions
            .query("SELECT * FROM dataset_versions", &format!(" ORDER BY version DESC LIMIT {}", page::fetch(limit)));
        let rows = query.fetch_all(&mut *reader.link().connection).await?;
        let items = rows.iter().map(|row| read_version(row, &dataset.name)).collect::<Result<Vec<_>, _>>()?;
        Ok(page::page(items, limit, |version| version.version.to_string()))
    }

    /// Which version is meant; its files are `manifest`'s.
    pub async fn resolve_dataset(&self, project: &Name, which: &Reference) -> Result<DatasetVersion, StoreError> {
        self.reader().await?.link().resolve_dataset(project, which).await
    }
}

impl Link<'_> {
    async fn find_dataset(&mut self, project: &Name, name: &Name) -> Result<Option<(i64, Dataset)>, StoreError> {
        let query = sql("SELECT * FROM datasets WHERE project = $1 AND name = $2".to_owned());
        let query = query.bind(project.to_string()).bind(name.to_string());
        query.fetch_optional(&mut *self.connection).await?.as_ref().map(read).transpose()
    }

    async fn dataset(&mut self, project: &Name, name: &Name) -> Result<(i64, Dataset), StoreError> {
        self.find_dataset(project, name).await?.ok_or_else(|| StoreError::not_found(format!("dataset {name}")))
    }

    async fn resolve_dataset(&mut self, project: &Name, which: &Reference) -> Result<DatasetVersion, StoreError> {
        let (id, dataset) = self.dataset(project, &which.name).await?;
        let missing = || StoreError::not_found(format!("dataset {which}"));
        let version = match &which.selector {
            Selector::Version(version) => *version,
            selector if selector.is_latest() => dataset.latest,
            // Only models have aliases of their own.
            Selector::Alias(_) => return Err(missing()),
        };
        let query = sql("SELECT * FROM dataset_versions WHERE dataset = $1 AND version = $2".to_owned());
        let row = query.bind(id).bind(i64::from(version)).fetch_optional(&mut *self.connection).await?;
        row.map(|row| read_version(&row, &dataset.name)).transpose()?.ok_or_else(missing)
    }

    /// One thing that names the dataset, if anything does.
    async fn used_by(&mut self, project: &Name, id: i64) -> Result<Option<String>, StoreError> {
        let query = sql("SELECT r.id, r.name FROM run_datasets d JOIN runs r ON r.id = d.run \
             WHERE d.dataset = $1 AND r.active = 1 ORDER BY r.created_at LIMIT 1"
            .to_owned());
        if let Some(row) = query.bind(id).fetch_optional(&mut *self.connection).await? {
            return Ok(Some(format!("run {} ({})", row.text("id")?, row.text("name")?)));
        }
        let query =
            sql("SELECT name, model_version FROM lineage WHERE project = $1 AND kind = 'dataset' AND subject = $2 \
             ORDER BY name, model_version LIMIT 1"
                .to_owned());
        let row = query.bind(project.to_string()).bind(id.to_string()).fetch_optional(&mut *self.connection).await?;
        row.map(|row| Ok(format!("model {}@{}", row.text("name")?, row.int("model_version")?))).transpose()
    }
}

/// Of a project, with a name that holds this, after that one.
pub(crate) fn named(project: &Name, search: Option<&str>, after: Option<&str>) -> Conditions {
    let mut conditions = Conditions::default();
    conditions.add("project = ?", [project.as_str().into()]);
    if let Some(search) = search.filter(|search| !search.is_empty()) {
        let escaped = clean(search).to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        conditions.add("name LIKE ? ESCAPE '\\'", [format!("%{escaped}%").as_str().into()]);
    }
    if let Some(after) = after {
        conditions.add("name > ?", [clean(after).as_str().into()]);
    }
    conditions
}

fn read(row: &AnyRow) -> Result<(i64, Dataset), StoreError> {
    let dataset = Dataset {
        name: row.parsed("name")?,
        project: row.parsed("project")?,
        latest: row.number("latest")?,
        files: row.number("files")?,
        bytes: row.number("bytes")?,
        created_by: row.text("created_by")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    };
    Ok((row.int("id")?, dataset))
}

fn read_version(row: &AnyRow, name: &Name) -> Result<DatasetVersion, StoreError> {
    Ok(DatasetVersion {
        name: name.clone(),
        version: row.number("version")?,
        manifest: row.parsed("manifest")?,
        files: row.number("files")?,
        bytes: row.number("bytes")?,
        created_by: row.text("created_by")?,
        created_at: row.time("created_at")?,
        contents: None,
    })
}
