//! What a run's program printed, whole or as it comes.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use dure_store::RunRow;
use dure_types::{Code, Name, RunId, run::LogQuery};
use futures_util::{Stream, StreamExt};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::extract::{Path, Query};
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
    if let Some(attempt) = query.attempt.filter(|attempt| *attempt == 0 || *attempt > row.attempt) {
        let id = row.id.short();
        let detail = format!("run {id} has no attempt {attempt}; it had {} so far", row.attempt);
        return Err(ApiError::new(Code::NotFound, detail).next(format!("dure show {id}")));
    }
    let resumed = sse::last_id(&headers).and_then(Place::read);
    let last = query.attempt.unwrap_or(row.attempt);
    // A run that is followed is followed from its first attempt on, unless another was asked for.
    let first = query.attempt.unwrap_or(if query.follow { 1 } else { last });
    let place = resumed.unwrap_or(Place { attempt: first, offset: query.offset.unwrap_or(0) });
    let reader = Reader { core, project, run: row.id, raw: query.raw, only: query.attempt, follow: query.follow };
    if sse::wants_events(&headers) {
        return Ok(Sse::new(reader.events(place)).keep_alive(sse::keep_alive()).into_response());
    }
    if query.raw && !query.follow {
        let body = axum::body::Body::from_stream(reader.bytes(place));
        return Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response());
    }
    let text = reader.text(place);
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

enum After {
    More,
    Attempt(u32),
    End(Box<RunRow>),
}

enum Piece {
    Text(Place, String),
    End(Box<RunRow>),
    Failed(ApiError),
}

impl Reader {
    fn events(self, from: Place) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
        let core = Arc::clone(&self.core);
        self.pieces(from).filter_map(move |piece| {
            let event = match piece {
                Piece::Text(_, text) if text.is_empty() => None,
                Piece::Text(place, text) => {
                    Some(sse::event("log", format!("{}:{}", place.attempt, place.offset), &text))
                }
                Piece::End(row) => Some(sse::event("end", "end", &run::run_of(&core, *row, Default::default()))),
                Piece::Failed(error) => Some(sse::event("error", "error", &error.0)),
            };
            std::future::ready(event.map(Ok))
        })
    }

    /// What is there now, byte for byte.
    fn bytes(self, from: Place) -> impl Stream<Item = std::io::Result<bytes::Bytes>> + use<> {
        async_stream::try_stream! {
            let mut at = from.offset;
            loop {
                let bytes = self.core.logs.read(&self.run, from.attempt, at, CHUNK)?;
                if bytes.is_empty() {
                    return;
                }
                at += bytes.len() as u64;
                yield bytes.into();
            }
        }
    }

    fn text(self, from: Place) -> impl Stream<Item = String> + use<> {
        self.pieces(from).filter_map(|piece| {
            std::future::ready(match piece {
                Piece::Text(_, text) if !text.is_empty() => Some(text),
                _ => None,
            })
        })
    }

    /// Attempt after attempt, as long as there is one to come.
    fn pieces(self, from: Place) -> impl Stream<Item = Piece> + use<> {
        async_stream::stream! {
            let mut place = from;
            loop {
                if place.attempt > 0 {
                    let mut attempt = std::pin::pin!(self.attempt(place));
                    while let Some(piece) = attempt.next().await {
                        if let Piece::Text(reached, _) = &piece {
                            place = *reached;
                        }
                        yield piece;
                    }
                }
                match self.after(place).await {
                    Ok(After::More) => {}
                    Ok(After::Attempt(attempt)) => place = Place { attempt, offset: 0 },
                    Ok(After::End(row)) => {
                        yield Piece::End(row);
                        return;
                    }
                    Err(error) => {
                        yield Piece::Failed(error);
                        return;
                    }
                }
            }
        }
    }

    /// Waits for what follows on what was read: more of the same attempt, the next one, or the run's end.
    async fn after(&self, place: Place) -> ApiResult<After> {
        let mut events = self.core.store.subscribe();
        let mut opened = self.core.logs.opened();
        loop {
            events.mark_unchanged();
            opened.mark_unchanged();
            let row = self.core.store.run(&self.project, &self.run).await?;
            let more = place.attempt > 0
                && (self.core.logs.length(&self.run, place.attempt) > place.offset || self.is_open(place.attempt));
            if self.follow && more {
                return Ok(After::More);
            }
            if self.follow && self.only.is_none() && row.attempt > place.attempt {
                return Ok(After::Attempt(place.attempt + 1));
            }
            if !self.follow || row.state.is_over() || self.only.is_some_and(|only| row.attempt > only) {
                return Ok(After::End(Box::new(row)));
            }
            tokio::select! {
                changed = events.changed() => if changed.is_err() { return Ok(After::End(Box::new(row))) },
                _ = opened.changed() => {}
            }
        }
    }

    /// Whether somebody still writes this attempt's log.
    fn is_open(&self, attempt: u32) -> bool {
        !self.core.logs.progress(&self.run, attempt).borrow().complete
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
            // Also when there is no text: it tells how far the log was read.
            yield Piece::Text(Place { attempt, offset: at }, filter.finish().text);
        }
    }

    fn is_line_start(&self, attempt: u32, offset: u64) -> bool {
        let before = |offset: u64| self.core.logs.read(&self.run, attempt, offset - 1, 1);
        offset == 0 || before(offset).is_ok_and(|byte| byte == b"\n")
    }
}
