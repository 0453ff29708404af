//! What happened in a project, listed or followed.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event as Sent, Sse},
    },
};
use dure_types::{
    Name, Page,
    event::{Event, EventQuery},
};
use futures_util::Stream;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::extract::{Json, Query};
use super::{InProject, sse};
use crate::{
    core::Core,
    error::{ApiError, ApiResult},
};

pub fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(list_events))
}

const PAGE: u32 = 500;

/// What happened
#[utoipa::path(
    get, path = "/projects/{project}/events", operation_id = "list_events", tag = "event",
    params(("project" = String, Path), EventQuery),
    responses((status = 200, description = "or server-sent events `event` where the caller accepts text/event-stream",
        body = Page<Event>)),
)]
async fn list_events(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Query(query): Query<EventQuery>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let resumed = sse::last_id(&headers).and_then(|id| id.parse().ok());
    let after: i64 = resumed.or(query.after).unwrap_or(0);
    if sse::wants_events(&headers) {
        let events = follow(core, project, query.subject, after, query.follow);
        return Ok(Sse::new(events).keep_alive(sse::keep_alive()).into_response());
    }
    let limit = query.limit.unwrap_or(100).clamp(1, 1000);
    if query.newest {
        let items = core.store.newest_events(&project, query.subject.as_deref(), limit).await?;
        return Ok(Json(Page { items, next: None }).into_response());
    }
    let items = core.store.events(&project, after, query.subject.as_deref(), limit).await?;
    let next = (items.len() as u32 == limit).then(|| items.last().map(|event| event.sequence.to_string())).flatten();
    Ok(Json(Page { items, next }).into_response())
}

fn follow(
    core: Arc<Core>,
    project: Name,
    subject: Option<String>,
    mut after: i64,
    follow: bool,
) -> impl Stream<Item = Result<Sent, Infallible>> {
    async_stream::stream! {
        let mut sequence = core.store.subscribe();
        loop {
            sequence.mark_unchanged();
            loop {
                match core.store.events(&project, after, subject.as_deref(), PAGE).await {
                    Ok(events) if events.is_empty() => break,
                    Ok(events) => {
                        for event in events {
                            after = event.sequence;
                            yield Ok(sse::event("event", event.sequence, &event));
                        }
                    }
                    Err(error) => {
                        yield Ok(sse::event("error", "error", &ApiError::from(error).0));
                        return;
                    }
                }
            }
            if !follow || sequence.changed().await.is_err() {
                return;
            }
        }
    }
}
