//! What a run reported of itself.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use dure_store::{MetricCursor, MetricRow};
use dure_types::{Name, Page, RunId, run::MetricPoint};
use futures_util::Stream;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::extract::{Json, Path, Query};
use super::{InProject, run, sse};
use crate::{
    core::Core,
    error::{ApiError, ApiResult},
};

pub fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(list_metrics))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct MetricQuery {
    /// Keep the connection open until the run is over.
    #[serde(default)]
    follow: bool,
    cursor: Option<String>,
    limit: Option<u32>,
}

const PAGE: u32 = 1000;

/// What a run reported
#[utoipa::path(
    get, path = "/projects/{project}/runs/{run}/metrics", operation_id = "list_metrics", tag = "run",
    params(("project" = String, Path), ("run" = String, Path), MetricQuery),
    responses((status = 200, description = "or server-sent events `metric` and `end` where the caller accepts text/event-stream",
        body = Page<MetricPoint>)),
)]
async fn list_metrics(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, prefix)): Path<(String, String)>,
    Query(query): Query<MetricQuery>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let row = run::find(&core, &project, &prefix).await?;
    if sse::wants_events(&headers) {
        let after = sse::last_id(&headers).and_then(read_cursor);
        return Ok(Sse::new(follow(core, project, row.id, after, query.follow))
            .keep_alive(sse::keep_alive())
            .into_response());
    }
    let after = match query.cursor.as_deref() {
        None => None,
        Some(text) => Some(read_cursor(text).ok_or_else(|| {
            ApiError::new(dure_types::Code::RequestInvalid, "cursor: not one that a page of metrics gave")
        })?),
    };
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let rows = core.store.metrics(&row.id, after.as_ref(), limit).await?;
    let next = (rows.len() as u32 == limit).then(|| rows.last().map(write_cursor)).flatten();
    Ok(Json(Page { items: rows.into_iter().map(point).collect(), next }).into_response())
}

fn point(row: MetricRow) -> MetricPoint {
    MetricPoint { name: row.name, value: row.value, step: row.step, attempt: row.attempt, at: row.at }
}

/// `ATTEMPT:OFFSET:NAME`
fn write_cursor(row: &MetricRow) -> String {
    format!("{}:{}:{}", row.attempt, row.offset, row.name)
}

fn read_cursor(text: &str) -> Option<MetricCursor> {
    let mut parts = text.splitn(3, ':');
    let (attempt, offset) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(MetricCursor { attempt, offset, name: parts.next()?.to_owned() })
}

fn follow(
    core: Arc<Core>,
    project: Name,
    run: RunId,
    mut after: Option<MetricCursor>,
    follow: bool,
) -> impl Stream<Item = Result<Event, Infallible>> {
    async_stream::stream! {
        let mut written = core.store.written();
        loop {
            written.mark_unchanged();
            // Looked at first: what was reported before it was over is sent before the end.
            let row = core.store.run(&project, &run).await;
            loop {
                let Ok(rows) = core.store.reported_metrics(&run, after.as_ref(), PAGE).await else { return };
                let Some(last) = rows.last() else { break };
                after = Some(last.cursor());
                for row in rows {
                    let id = write_cursor(&row);
                    yield Ok(sse::event("metric", id, &point(row)));
                }
            }
            match row {
                Ok(row) if row.state.is_over() || !follow => {
                    yield Ok(sse::event("end", "end", &run::run_of(&core, row, Default::default())));
                    return;
                }
                Ok(_) => {}
                Err(error) => {
                    yield Ok(sse::event("error", "error", &ApiError::from(error).0));
                    return;
                }
            }
            if written.changed().await.is_err() {
                return;
            }
        }
    }
}
