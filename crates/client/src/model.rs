//! Models, their versions and aliases.

use std::path::Path;

use dure_types::{
    Name, Page, Selector,
    dataset::DatasetQuery,
    model::{Model, ModelVersion, RegisterModel, SetAlias},
};
use futures_util::Stream;
use reqwest::Method;

use crate::{Client, ClientError, pages};

impl Client {
    /// Models are searched and paged as datasets are.
    pub async fn list_models(&self, query: &DatasetQuery) -> Result<Page<Model>, ClientError> {
        self.get_with(&["models"], query).await
    }

    pub fn all_models(&self, query: DatasetQuery) -> impl Stream<Item = Result<Model, ClientError>> + Send + '_ {
        pages(move |cursor| {
            let query = DatasetQuery { cursor, ..query.clone() };
            async move { self.list_models(&query).await }
        })
    }

    pub async fn get_model(&self, name: &Name) -> Result<Model, ClientError> {
        self.get(&["models", name.as_str()]).await
    }

    pub async fn list_model_versions(&self, name: &Name) -> Result<Page<ModelVersion>, ClientError> {
        self.get(&["models", name.as_str(), "versions"]).await
    }

    pub async fn register_model(&self, name: &Name, model: &RegisterModel) -> Result<ModelVersion, ClientError> {
        self.give(Method::POST, &["models", name.as_str(), "versions"], model).await
    }

    pub async fn get_model_version(&self, name: &Name, selector: &Selector) -> Result<ModelVersion, ClientError> {
        self.get(&["models", name.as_str(), "versions", &selector.to_string()]).await
    }

    /// The file itself; `progress` is told each further number of bytes.
    pub async fn download_model(
        &self,
        name: &Name,
        selector: &Selector,
        target: &Path,
        progress: impl Fn(u64) + Send,
    ) -> Result<u64, ClientError> {
        let selector = selector.to_string();
        self.download(&["models", name.as_str(), "versions", &selector, "file"], target, progress).await
    }

    pub async fn set_alias(&self, name: &Name, alias: &Name, to: &SetAlias) -> Result<Model, ClientError> {
        self.give(Method::PUT, &["models", name.as_str(), "aliases", alias.as_str()], to).await
    }
}
