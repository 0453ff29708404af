//! What happened, in order.

use dure_types::{
    Page,
    event::{Event, EventQuery},
};

use crate::{Client, ClientError};

impl Client {
    /// What has happened so far; `follow_events` waits for more.
    pub async fn list_events(&self, query: &EventQuery) -> Result<Page<Event>, ClientError> {
        self.get_with(&["events"], &EventQuery { follow: false, ..query.clone() }).await
    }
}
