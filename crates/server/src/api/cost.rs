//! What was spent.

use std::sync::Arc;

use axum::extract::State;
use dure_plan::cost::{self, Interval};
use dure_types::{
    Code,
    cost::{CostQuery, CostReport},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::Who;
use super::extract::{Json, Query};
use crate::{
    core::Core,
    error::{ApiError, ApiResult},
};

pub fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(get_cost))
}

/// What was spent, against the baseline
#[utoipa::path(
    get, path = "/cost", operation_id = "get_cost", tag = "cost", params(CostQuery),
    responses((status = 200, body = CostReport)),
)]
async fn get_cost(
    State(core): State<Arc<Core>>,
    Who(caller): Who,
    Query(query): Query<CostQuery>,
) -> ApiResult<Json<CostReport>> {
    let mut projects = core.auth.readable(&caller);
    if let Some(project) = &query.project {
        projects.retain(|readable| readable == project);
        if projects.is_empty() {
            return Err(
                ApiError::new(Code::NotFound, format!("there is no project `{project}`")).next("dure project list")
            );
        }
    }
    let intervals = core.store.ledger(&projects, query.since).await?;
    let intervals: Vec<_> = intervals
        .into_iter()
        .map(|row| Interval {
            run: row.run,
            attempt: row.attempt,
            project: row.project,
            user: row.user,
            kind: row.kind,
            name: row.name,
            service: row.service,
            started_at: row.started_at,
            ended_at: row.ended_at,
            per_hour: row.rate,
        })
        .collect();
    let mut report = cost::report(&intervals, query.by, query.since, core.now());
    report.rate_source.clone_from(&core.node.rate.source);
    report.assumed = core.node.rate.assumed;
    Ok(Json(report))
}
