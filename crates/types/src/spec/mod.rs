//! Specs: what a person asks for, one document per thing. Written as YAML or JSON; `parse` reads a
//! file and keeps the place of every fault.
//!
//! A spec type has no `tag`, `untagged` or `flatten`: those lose the positions.

mod dataset;
mod environment;
mod job;
pub mod parse;
mod resources;
pub mod schema;
mod service;

use serde::{Deserialize, Serialize};

pub use self::{
    dataset::DatasetSpec,
    environment::{EnvironmentSpec, EnvironmentUse, InlineEnvironment},
    job::{JobSpec, OneOrMany, Output, OutputKind, Outputs, Retries},
    resources::Resources,
    service::ServiceSpec,
};
use crate::name::Name;

/// One document.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a file holds few of them, and most are jobs")]
pub enum Spec {
    Dataset(DatasetSpec),
    Environment(EnvironmentSpec),
    Job(JobSpec),
    Service(ServiceSpec),
}

/// The kinds there are, in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Dataset,
    Environment,
    Job,
    Service,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Dataset, Kind::Environment, Kind::Job, Kind::Service];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::Environment => "environment",
            Self::Job => "job",
            Self::Service => "service",
        }
    }
}

impl Spec {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Dataset(_) => Kind::Dataset,
            Self::Environment(_) => Kind::Environment,
            Self::Job(_) => Kind::Job,
            Self::Service(_) => Kind::Service,
        }
    }

    pub fn name(&self) -> &Name {
        match self {
            Self::Dataset(spec) => &spec.name,
            Self::Environment(spec) => &spec.name,
            Self::Job(spec) => &spec.name,
            Self::Service(spec) => &spec.name,
        }
    }
}
