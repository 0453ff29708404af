//! Datasets and their versions.

use std::path::Path;

use dure_types::{
    Name, Page, Selector,
    dataset::{CreateDatasetVersion, Dataset, DatasetQuery, DatasetVersion, Rename},
};
use futures_util::Stream;
use reqwest::Method;

use crate::{Client, ClientError, pages};

impl Client {
    pub async fn list_datasets(&self, query: &DatasetQuery) -> Result<Page<Dataset>, ClientError> {
        self.get_with(&["datasets"], query).await
    }

    pub fn all_datasets(&self, query: DatasetQuery) -> impl Stream<Item = Result<Dataset, ClientError>> + Send + '_ {
        pages(move |cursor| {
            let query = DatasetQuery { cursor, ..query.clone() };
            async move { self.list_datasets(&query).await }
        })
    }

    pub async fn get_dataset(&self, name: &Name) -> Result<Dataset, ClientError> {
        self.get(&["datasets", name.as_str()]).await
    }

    pub async fn rename_dataset(&self, name: &Name, new: &Rename) -> Result<Dataset, ClientError> {
        self.give(Method::PATCH, &["datasets", name.as_str()], new).await
    }

    pub async fn delete_dataset(&self, name: &Name) -> Result<(), ClientError> {
        self.nothing(self.of_project(Method::DELETE, &["datasets", name.as_str()])?).await
    }

    pub async fn list_dataset_versions(&self, name: &Name) -> Result<Page<DatasetVersion>, ClientError> {
        self.get(&["datasets", name.as_str(), "versions"]).await
    }

    pub async fn create_dataset_version(
        &self,
        name: &Name,
        version: &CreateDatasetVersion,
    ) -> Result<DatasetVersion, ClientError> {
        self.give(Method::POST, &["datasets", name.as_str(), "versions"], version).await
    }

    pub async fn get_dataset_version(&self, name: &Name, selector: &Selector) -> Result<DatasetVersion, ClientError> {
        self.get(&["datasets", name.as_str(), "versions", &selector.to_string()]).await
    }

    /// A zip file; `progress` is told each further number of bytes.
    pub async fn download_dataset(
        &self,
        name: &Name,
        selector: &Selector,
        target: &Path,
        progress: impl Fn(u64) + Send,
    ) -> Result<u64, ClientError> {
        let selector = selector.to_string();
        self.download(&["datasets", name.as_str(), "versions", &selector, "archive"], target, progress).await
    }
}
