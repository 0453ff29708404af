//! What a run's program printed, whole or as it comes.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, header},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use dure_store::RunRow;
use dure_types::{
    Name, RunId,
    run::{LogQuery, RunState},
};
use futures_util::{Stream, StreamExt};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{InProject, run, sse};
use crate::{
    core::Core,
    error::{ApiError, ApiResult},
    logs::LineFilter,
};

pub fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(get_logs))
}

const CHUNK: usize = 256 << 10;

/// Where a reader of a run's log stands: the id of an event, `ATTEMPT:OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    attempt: u32,
    offset: u64,
}

impl Place {
    fn read(id: &str) -> Option<Self> {
        let (attempt, offset) = id.split_once(':')?;
        Some(Self { attempt: attempt.parse().ok()?, offset: offset.parse().ok()? })
    }
}

/// What a run printed
#[utoipa::path(
    get, path = "/projects/{project}/runs/{run}/logs", operation_id = "get_logs", tag = "run",
    params(("project" = String, Path), ("run" = String, Path), LogQuery),
    responses((status = 200, description = "text, or server-sent events `log` and `end` where the caller accepts text/event-stream",
        content_type = "text/plain", body = String)),
)]
async fn get_logs(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, prefix)): Path<(String, String)>,
    Query(query): Query<LogQuery>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let row = run::find(&core, &project, &prefix).await?;
    let resumed = sse::last_id(&headers).and_then(Place::read);
    let last = query.attempt.unwrap_or(row.attempt);
    // A run that is followed is followed from its first attempt on, unless another was asked for.
    let first = query.attempt.unwrap_or(if query.follow { row.attempt.max(1) } else { last });
    let place = resumed.unwrap_or(Place { attempt: first, offset: query.offset.unwrap_or(0) });
    let reader = Reader { core, project, run: row.id, raw: query.raw, only: query.attempt, follow: query.follow };
    if sse::wants_events(&headers) {
        return Ok(Sse::new(reader.events(place)).keep_alive(sse::keep_alive()).into_response());
    }
    let text = reader.events_of_text(place);
    let body = axum::body::Body::from_stream(text.map(Ok::<_, Infallible>));
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

struct Reader {
    core: Arc<Core>,
    project: Name,
    run: RunId,
    raw: bool,
    only: Option<u32>,
    follow: bool,
}

enum Piece {
    Text(Place, String),
    End(Box<RunRow>),
    Failed(ApiError),
}

impl Reader {
    fn events(self, from: Place) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
        let core = Arc::clone(&self.core);
        self.pieces(from).map(move |piece| {
            Ok(match piece {
                Piece::Text(place, text) => sse::event("log", format!("{}:{}", place.attempt, place.offset), &text),
                Piece::End(row) => sse::event("end", "end", &run::run_of(&core, *row, Default::default())),
                Piece::Failed(error) => sse::event("error", "error", &error.0),
            })
        })
    }

    fn events_of_text(self, from: Place) -> impl Stream<Item = String> + use<> {
        self.pieces(from).filter_map(|piece| async move {
            match piece {
                Piece::Text(_, text) => Some(text),
                _ => None,
            }
        })
    }

    fn pieces(self, from: Place) -> impl Stream<Item = Piece> + use<> {
        async_stream::stream! {
            let mut place = from;
            let mut events = self.core.store.subscribe();
            loop {
                if place.attempt > 0 {
                    let mut attempt = std::pin::pin!(self.attempt(place));
                    while let Some(piece) = attempt.next().await {
                        yield piece;
                    }
                }
                // The attempt has nothing more: is there another, or is the run over?
                let row = loop {
                    events.mark_unchanged();
                    let row = match self.core.store.run(&self.project, &self.run).await {
                        Ok(row) => row,
                        Err(error) => {
                            yield Piece::Failed(error.into());
                            return;
                        }
                    };
                    let more = self.only.is_none() && row.attempt > place.attempt;
                    if more || row.state.is_over() || !self.follow || self.only.is_some() {
                        break row;
                    }
                    if row.state == RunState::Running && self.is_open(place.attempt) {
                        break row;
                    }
                    if events.changed().await.is_err() {
                        return;
                    }
                };
                if self.only.is_none() && row.attempt > place.attempt && self.follow {
                    place = Place { attempt: place.attempt.max(row.attempt.min(place.attempt + 1)), offset: 0 };
                } else if row.state.is_over() || !self.follow || self.only.is_some() {
                    yield Piece::End(Box::new(row));
                    return;
                }
            }
        }
    }

    /// Whether somebody still writes this attempt's log.
    fn is_open(&self, attempt: u32) -> bool {
        attempt > 0 && !self.core.logs.progress(&self.run, attempt).borrow().complete
    }

    /// What an attempt has printed, and goes on printing while it is followed.
    fn attempt(&self, from: Place) -> impl Stream<Item = Piece> + '_ {
        async_stream::stream! {
            let (attempt, mut at) = (from.attempt, from.offset);
            let mut filter = if self.is_line_start(attempt, at) { LineFilter::default() } else { LineFilter::mid_line() };
            let mut progress = self.core.logs.progress(&self.run, attempt);
            loop {
                let seen = *progress.borrow_and_update();
                while at < seen.length {
                    let bytes = match self.core.logs.read(&self.run, attempt, at, CHUNK) {
                        Ok(bytes) if bytes.is_empty() => break,
                        Ok(bytes) => bytes,
                        Err(error) => {
                            yield Piece::Failed(ApiError::internal(error));
                            return;
                        }
                    };
                    let begin = at;
                    at += bytes.len() as u64;
                    let text = if self.raw { filter.feed_raw(&bytes) } else { filter.feed(begin, &bytes).text };
                    if !text.is_empty() {
                        yield Piece::Text(Place { attempt, offset: at - filter.held() }, text);
                    }
                }
                if seen.complete || !self.follow {
                    break;
                }
                if progress.changed().await.is_err() {
                    break;
                }
            }
            let rest = filter.finish().text;
            if !rest.is_empty() {
                yield Piece::Text(Place { attempt, offset: at }, rest);
            }
        }
    }

    fn is_line_start(&self, attempt: u32, offset: u64) -> bool {
        let before = |offset: u64| self.core.logs.read(&self.run, attempt, offset - 1, 1);
        offset == 0 || before(offset).is_ok_and(|byte| byte == b"\n")
    }
}
