//! Environments.

use dure_types::{Page, environment::Environment};

use crate::{Client, ClientError};

impl Client {
    pub async fn list_environments(&self) -> Result<Page<Environment>, ClientError> {
        self.get(&["environments"]).await
    }

    /// By name or digest.
    pub async fn get_environment(&self, name: &str) -> Result<Environment, ClientError> {
        self.get(&["environments", name]).await
    }
}
