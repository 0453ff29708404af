//! Models: versions, aliases and lineage. What a version was made from is a row each, so that one can also ask what
//! was made from something.

use std::collections::BTreeMap;

use dure_types::{
    Digest, Name, Page, RunId,
    model::{Lineage, Model, ModelVersion, Signature},
    name::{Reference, Selector},
    page::PageQuery,
};
use serde::Serialize;
use sqlx::any::AnyRow;

use crate::{
    Scope, Store, StoreError, Tx,
    dataset::named,
    dialect::{Int, Text},
    page,
    row::{Columns, Conditions, Link, clean, sql, to_json, whole},
};

/// A version as it is made.
#[derive(Debug, Clone)]
pub struct NewModelVersion {
    pub name: Name,
    pub manifest: Digest,
    pub size: u64,
    pub format: String,
    pub signature: Signature,
    pub lineage: Lineage,
    pub metrics: BTreeMap<String, f64>,
}

#[derive(Serialize)]
struct Ancestor {
    kind: &'static str,
    subject: String,
    version: u32,
}

impl Tx {
    /// Makes the next version, and the model where there is none. What a run made, and what the latest version is
    /// when nobody made it in a run, is not made twice: then the version that there is is returned.
    pub async fn create_model_version(&mut self, scope: &Scope, new: &NewModelVersion) -> Result<u32, StoreError> {
        if let Some(version) = self.same_version(scope, new).await? {
            return Ok(version);
        }
        let row = sql("INSERT INTO models (name, latest, updated_at, domain, project, created_by, created_at) \
             VALUES ($1, 1, $2, $3, $4, $5, $2) ON CONFLICT (project, name) \
             DO UPDATE SET latest = models.latest + 1, updated_at = excluded.updated_at RETURNING latest"
            .to_owned())
        .bind(new.name.to_string())
        .bind(scope.at.micros())
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(clean(&scope.actor))
        .fetch_one(self.connection())
        .await?;
        let version: u32 = row.number("latest")?;
        let metrics: BTreeMap<String, String> =
            new.metrics.iter().map(|(name, value)| (clean(name), value.to_string())).collect();
        sql("INSERT INTO model_versions (name, version, manifest, size, format, signature, metrics, domain, project, \
             created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
            .to_owned())
        .bind(new.name.to_string())
        .bind(i64::from(version))
        .bind(new.manifest.to_string())
        .bind(whole(new.size))
        .bind(clean(&new.format))
        .bind(to_json(&new.signature)?)
        .bind(to_json(&metrics)?)
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(clean(&scope.actor))
        .bind(scope.at.micros())
        .execute(self.connection())
        .await?;
        self.insert_lineage(scope, &new.name, version, &new.lineage).await?;
        self.add_event(scope, "model", new.name.as_str(), "created", Some(&format!("version {version}"))).await?;
        Ok(version)
    }

    async fn same_version(&mut self, scope: &Scope, new: &NewModelVersion) -> Result<Option<u32>, StoreError> {
        let (text, subject) = match &new.lineage.run {
            Some(run) => (
                "SELECT v.version FROM model_versions v JOIN lineage l ON l.project = v.project AND l.name = v.name \
                 AND l.model_version = v.version AND l.kind = 'run' AND l.subject = $4 \
                 WHERE v.project = $1 AND v.name = $2 AND v.manifest = $3",
                run.to_string(),
            ),
            None => (
                "SELECT v.version FROM model_versions v JOIN models m ON m.project = v.project AND m.name = v.name \
                 AND m.latest = v.version WHERE v.project = $1 AND v.name = $2 AND v.manifest = $3 \
                 AND NOT EXISTS (SELECT 1 FROM lineage l WHERE l.project = v.project AND l.name = v.name \
                 AND l.model_version = v.version AND l.kind <> $4)",
                String::new(),
            ),
        };
        let query = sql(text.to_owned())
            .bind(scope.project.to_string())
            .bind(new.name.to_string())
            .bind(new.manifest.to_string())
            .bind(subject);
        query.fetch_optional(self.connection()).await?.map(|row| row.number("version")).transpose()
    }

    async fn insert_lineage(
        &mut self,
        scope: &Scope,
        name: &Name,
        version: u32,
        lineage: &Lineage,
    ) -> Result<(), StoreError> {
        let ancestor = |kind, subject: String| Ancestor { kind, subject, version: 0 };
        let mut ancestors: Vec<Ancestor> = [
            lineage.run.as_ref().map(|run| ancestor("run", run.to_string())),
            lineage.job.as_ref().map(|job| ancestor("job", job.to_string())),
            lineage.code.as_ref().map(|code| ancestor("code", code.to_string())),
            lineage.environment.as_ref().map(|digest| ancestor("environment", digest.to_string())),
        ]
        .into_iter()
        .flatten()
        .collect();
        for dataset in &lineage.datasets {
            let which: Reference = dataset.parse().map_err(|error| StoreError::Invalid(format!("{error}")))?;
            let found = self.resolve_dataset(&scope.project, &which).await?;
            let id = sql("SELECT id FROM datasets WHERE project = $1 AND name = $2".to_owned())
                .bind(scope.project.to_string())
                .bind(which.name.to_string())
                .fetch_one(self.connection())
                .await?
                .int("id")?;
            ancestors.push(Ancestor { kind: "dataset", subject: id.to_string(), version: found.version });
        }
        let rows = self.dialect().rows(&[("kind", Text), ("subject", Text), ("version", Int)]);
        sql(format!(
            "INSERT INTO lineage (name, model_version, kind, subject, version, domain, project, created_by, created_at) \
             SELECT $2, $3, j.kind, j.subject, j.version, $4, $5, $6, $7 FROM {rows} WHERE TRUE ON CONFLICT DO NOTHING"
        ))
        .bind(to_json(&ancestors)?)
        .bind(name.to_string())
        .bind(i64::from(version))
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(clean(&scope.actor))
        .bind(scope.at.micros())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Points an alias at a version. `latest` follows by itself and is refused.
    pub async fn set_alias(
        &mut self,
        scope: &Scope,
        name: &Name,
        alias: &Name,
        version: u32,
    ) -> Result<Model, StoreError> {
        if alias.as_str() == Selector::LATEST || alias.as_str().bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(StoreError::Invalid(format!("`{alias}` cannot be an alias: it has a meaning already")));
        }
        self.resolve_model(&scope.project, &Reference::version(name.clone(), version)).await?;
        sql("INSERT INTO model_aliases (name, alias, version, domain, project, created_by, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (project, name, alias) \
             DO UPDATE SET version = excluded.version, created_by = excluded.created_by, created_at = excluded.created_at"
            .to_owned())
        .bind(name.to_string())
        .bind(alias.to_string())
        .bind(i64::from(version))
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(clean(&scope.actor))
        .bind(scope.at.micros())
        .execute(self.connection())
        .await?;
        self.add_event(scope, "model", name.as_str(), "alias_set", Some(&format!("{alias} is version {version}")))
            .await?;
        self.link().model(&scope.project, name).await
    }

    pub async fn resolve_model(&mut self, project: &Name, which: &Reference) -> Result<ModelVersion, StoreError> {
        self.link().resolve_model(project, which).await
    }
}

impl Store {
    /// By name; `search` is a part of it.
    pub async fn list_models(
        &self,
        project: &Name,
        search: Option<&str>,
        wanted: &PageQuery,
    ) -> Result<Page<Model>, StoreError> {
        let (limit, mut reader) = (wanted.limit(), self.reader().await?);
        let query = named(project, search, wanted.cursor.as_deref())
            .query("SELECT * FROM models", &format!(" ORDER BY name LIMIT {}", page::fetch(limit)));
        let rows = query.fetch_all(&mut *reader.link().connection).await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            items.push(reader.link().read_model(project, row).await?);
        }
        Ok(page::page(items, limit, |model| model.name.to_string()))
    }

    pub async fn model(&self, project: &Name, name: &Name) -> Result<Model, StoreError> {
        self.reader().await?.link().model(project, name).await
    }

    /// The newest first.
    pub async fn model_versions(
        &self,
        project: &Name,
        name: &Name,
        wanted: &PageQuery,
    ) -> Result<Page<ModelVersion>, StoreError> {
        let (limit, mut reader) = (wanted.limit(), self.reader().await?);
        let model = reader.link().model(project, name).await?;
        let mut conditions = Conditions::default();
        conditions.add("project = ? AND name = ?", [project.as_str().into(), name.as_str().into()]);
        if let Some(cursor) = &wanted.cursor {
            let before: i64 = cursor.parse().map_err(|_| page::bad_cursor())?;
            conditions.add("version < ?", [before.into()]);
        }
        let query = conditions
            .query("SELECT * FROM model_versions", &format!(" ORDER BY version DESC LIMIT {}", page::fetch(limit)));
        let rows = query.fetch_all(&mut *reader.link().connection).await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            items.push(reader.link().read_version(row, &model).await?);
        }
        Ok(page::page(items, limit, |version| version.version.to_string()))
    }

    pub async fn resolve_model(&self, project: &Name, which: &Reference) -> Result<ModelVersion, StoreError> {
        self.reader().await?.link().resolve_model(project, which).await
    }

    /// The model versions that were made from a version of a dataset, as `name@version`.
    pub async fn models_from_dataset(&self, project: &Name, dataset: &Name) -> Result<Vec<Reference>, StoreError> {
        let query = sql("SELECT DISTINCT l.name, l.model_version FROM lineage l \
             JOIN datasets d ON d.project = l.project AND CAST(d.id AS TEXT) = l.subject \
             WHERE l.project = $1 AND l.kind = 'dataset' AND d.name = $2 ORDER BY l.name, l.model_version"
            .to_owned());
        references(&query.bind(project.to_string()).bind(dataset.to_string()).fetch_all(&self.readers).await?)
    }

    /// The model versions that a run made.
    pub async fn models_from_run(&self, project: &Name, run: &RunId) -> Result<Vec<Reference>, StoreError> {
        let query =
            sql("SELECT name, model_version FROM lineage WHERE project = $1 AND kind = 'run' AND subject = $2 \
             ORDER BY name, model_version"
                .to_owned());
        references(&query.bind(project.to_string()).bind(run.to_string()).fetch_all(&self.readers).await?)
    }
}

fn references(rows: &[AnyRow]) -> Result<Vec<Reference>, StoreError> {
    rows.iter().map(|row| Ok(Reference::version(row.parsed("name")?, row.number("model_version")?))).collect()
}

impl Link<'_> {
    async fn model(&mut self, project: &Name, name: &Name) -> Result<Model, StoreError> {
        let query = sql("SELECT * FROM models WHERE project = $1 AND name = $2".to_owned());
        let query = query.bind(project.to_string()).bind(name.to_string());
        match query.fetch_optional(&mut *self.connection).await? {
            Some(row) => self.read_model(project, &row).await,
            None => Err(StoreError::not_found(format!("model {name}"))),
        }
    }

    async fn resolve_model(&mut self, project: &Name, which: &Reference) -> Result<ModelVersion, StoreError> {
        let model = self.model(project, &which.name).await?;
        let missing = || StoreError::not_found(format!("model {which}"));
        let version = match &which.selector {
            Selector::Version(version) => *version,
            selector if selector.is_latest() => model.latest,
            Selector::Alias(alias) => *model.aliases.get(alias.as_str()).ok_or_else(missing)?,
        };
        let query = sql("SELECT * FROM model_versions WHERE project = $1 AND name = $2 AND version = $3".to_owned());
        let query = query.bind(project.to_string()).bind(which.name.to_string()).bind(i64::from(version));
        match query.fetch_optional(&mut *self.connection).await? {
            Some(row) => self.read_version(&row, &model).await,
            None => Err(missing()),
        }
    }

    async fn read_model(&mut self, project: &Name, row: &AnyRow) -> Result<Model, StoreError> {
        let name: Name = row.parsed("name")?;
        let query = sql("SELECT alias, version FROM model_aliases WHERE project = $1 AND name = $2".to_owned());
        let aliases = query.bind(project.to_string()).bind(name.to_string()).fetch_all(&mut *self.connection).await?;
        let read = |row: &AnyRow| Ok((row.text("alias")?, row.number("version")?));
        Ok(Model {
            name,
            project: project.clone(),
            latest: row.number("latest")?,
            aliases: aliases.iter().map(read).collect::<Result<_, StoreError>>()?,
            created_by: row.text("created_by")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
        })
    }

    async fn read_version(&mut self, row: &AnyRow, model: &Model) -> Result<ModelVersion, StoreError> {
        let version: u32 = row.number("version")?;
        let metrics: BTreeMap<String, String> = row.json("metrics")?;
        let number = |(name, text): (String, String)| match text.parse() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(StoreError::Corrupt(format!("metric {name} is `{text}`"))),
        };
        let mut aliases: Vec<_> =
            model.aliases.iter().filter(|(_, of)| **of == version).map(|(alias, _)| alias.clone()).collect();
        if model.latest == version {
            aliases.insert(0, Selector::LATEST.to_owned());
        }
        Ok(ModelVersion {
            name: model.name.clone(),
            version,
            format: row.text("format")?,
            signature: row.json("signature")?,
            manifest: row.parsed("manifest")?,
            size: row.number("size")?,
            lineage: self.lineage(&model.project, &model.name, version).await?,
            metrics: metrics.into_iter().map(number).collect::<Result<_, _>>()?,
            aliases,
            created_by: row.text("created_by")?,
            created_at: row.time("created_at")?,
            files: None,
        })
    }

    async fn lineage(&mut self, project: &Name, name: &Name, version: u32) -> Result<Lineage, StoreError> {
        let query = sql("SELECT l.kind, l.subject, l.version, d.name AS dataset FROM lineage l \
             LEFT JOIN datasets d ON l.kind = 'dataset' AND d.project = l.project AND CAST(d.id AS TEXT) = l.subject \
             WHERE l.project = $1 AND l.name = $2 AND l.model_version = $3 ORDER BY d.name, l.version"
            .to_owned());
        let query = query.bind(project.to_string()).bind(name.to_string()).bind(i64::from(version));
        let mut lineage = Lineage::default();
        for row in query.fetch_all(&mut *self.connection).await? {
            match row.text("kind")?.as_str() {
                "run" => lineage.run = Some(row.parsed("subject")?),
                "job" => lineage.job = Some(row.parsed("subject")?),
                "code" => lineage.code = Some(row.parsed("subject")?),
                "environment" => lineage.environment = Some(row.parsed("subject")?),
                "dataset" => lineage.datasets.push(format!("{}@{}", row.text("dataset")?, row.int("version")?)),
                other => return Err(StoreError::Corrupt(format!("a model was made from a `{other}`"))),
            }
        }
        Ok(lineage)
    }
}
