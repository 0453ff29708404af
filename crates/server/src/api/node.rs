//! Nodes, with what of them is taken.

use std::sync::Arc;

use axum::extract::State;
use dure_types::{Page, node::Node};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::extract::Json;
use crate::{core::Core, error::ApiResult};

pub fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(list_nodes))
}

/// The machines that runs are placed on
#[utoipa::path(
    get, path = "/nodes", operation_id = "list_nodes", tag = "node",
    responses((status = 200, body = Page<Node>)),
)]
async fn list_nodes(State(core): State<Arc<Core>>) -> ApiResult<Json<Page<Node>>> {
    let rows = core.store.nodes().await?;
    let schedule = core.schedule();
    let items = rows.into_iter().map(|row| {
        let used = schedule.machines().get(&row.name).map(dure_plan::schedule::Machine::used).unwrap_or_default();
        Node {
            used_cpu_milli: used.cpu_milli,
            used_memory_bytes: used.memory_bytes,
            used_gpus: u64::from(used.gpus),
            name: row.name,
            engine: row.engine,
            facts: row.facts,
            rate: row.rate,
            limits: row.limits,
            ready: row.ready,
            seen_at: row.seen_at,
        }
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}
