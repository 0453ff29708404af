//! What was spent, and what it is compared with.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{name::Name, quantity::Money, time::Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CostBy {
    #[default]
    Run,
    /// Jobs' runs, builds and services, each under its name.
    Name,
    Service,
    User,
    Project,
    Day,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CostQuery {
    #[serde(default)]
    pub by: CostBy,
    /// Only what was used after this moment (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub since: Option<Timestamp>,
    /// Only of this project; of all that one may read unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostLine {
    /// What the line is for: a run's id, a service's name, a day ...
    pub group: String,
    pub name: Option<String>,
    pub kind: Option<String>,
    pub runs: u64,
    pub seconds: f64,
    pub spent: Money,
    /// The same share, always on since the group's first start.
    pub baseline: Money,
    pub running: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostReport {
    pub lines: Vec<CostLine>,
    pub spent: Money,
    pub baseline: Money,
    /// The baseline in words.
    pub baseline_name: String,
    /// Where the hourly rates come from.
    pub rate_source: String,
    /// Some rate is Dure's assumption, not a bill.
    pub assumed: bool,
    pub at: Timestamp,
}
