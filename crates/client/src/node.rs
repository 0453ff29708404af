//! Nodes, what was spent on them, and the end of everything.

use dure_types::{
    Page,
    change::Ended,
    cost::{CostQuery, CostReport},
    node::Node,
};
use reqwest::Method;

use crate::{Client, ClientError};

impl Client {
    pub async fn list_nodes(&self) -> Result<Page<Node>, ClientError> {
        self.json(self.api(Method::GET, &["nodes"])?).await
    }

    pub async fn get_cost(&self, query: &CostQuery) -> Result<CostReport, ClientError> {
        self.json(self.api(Method::GET, &["cost"])?.query(query)).await
    }

    /// Ends runs, services, keeper and control plane, which answers before it goes.
    pub async fn shut_down(&self) -> Result<Ended, ClientError> {
        self.json(self.api(Method::POST, &["shutdown"])?).await
    }
}
