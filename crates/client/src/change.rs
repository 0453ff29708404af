//! Plan and apply.

use dure_types::change::{ChangeRequest, ChangeSet};
use reqwest::Method;

use crate::{Client, ClientError};

impl Client {
    pub async fn plan_changes(&self, request: &ChangeRequest) -> Result<ChangeSet, ClientError> {
        self.give(Method::POST, &["plan"], request).await
    }

    pub async fn apply_changes(&self, request: &ChangeRequest) -> Result<ChangeSet, ClientError> {
        self.give(Method::POST, &["apply"], request).await
    }
}
