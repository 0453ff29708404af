//! Events: what happened, in order, for people and programs to follow.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{name::Name, time::Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Grows by one; the id of the server-sent event.
    pub sequence: i64,
    pub at: Timestamp,
    pub project: Name,
    /// The resource's word: run, service, model ...
    pub resource: String,
    /// Its id or name.
    pub subject: String,
    /// `queued`, `running`, `succeeded`, `created`, `ready` ...
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Who caused it; `dure` where the platform did.
    pub actor: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Only after this sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// The last ones instead of the first ones, still in order.
    #[serde(default)]
    pub newest: bool,
    /// Only of this resource or subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Keep the connection open and send what comes.
    #[serde(default)]
    pub follow: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}
