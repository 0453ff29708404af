//! Services, and asking one.

use dure_types::{Name, Page, service::Service};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;

use crate::{Client, ClientError};

impl Client {
    pub async fn list_services(&self) -> Result<Page<Service>, ClientError> {
        self.get(&["services"]).await
    }

    pub async fn get_service(&self, name: &Name) -> Result<Service, ClientError> {
        self.get(&["services", name.as_str()]).await
    }

    pub async fn delete_service(&self, name: &Name) -> Result<(), ClientError> {
        self.nothing(self.of_project(Method::DELETE, &["services", name.as_str()])?).await
    }

    /// Rows through a service of any project, by the address that everybody uses.
    pub async fn predict(
        &self,
        project: &Name,
        service: &Name,
        rows: &(impl Serialize + Sync),
    ) -> Result<Value, ClientError> {
        let parts = ["s", project.as_str(), service.as_str(), "predict"];
        self.json(self.at(Method::POST, &parts)?.json(rows)).await
    }
}
