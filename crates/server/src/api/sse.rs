//! Server-sent events that a client can resume: each has an id, and the stream goes on after it.

use std::time::Duration;

use axum::{
    http::{HeaderMap, header},
    response::sse::{Event, KeepAlive},
};

/// Does the caller want events, or one answer?
pub fn wants_events(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|part| part.trim().starts_with("text/event-stream"))
}

/// The id of the last event that the caller has.
pub fn last_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id").and_then(|value| value.to_str().ok())
}

pub fn event(name: &str, id: impl ToString, data: &impl serde::Serialize) -> Event {
    let event = Event::default().event(name).id(id.to_string());
    match event.clone().json_data(data) {
        Ok(event) => event,
        // Nothing that is sent here fails to be JSON; a client that sees this name tells it.
        Err(error) => Event::default().event("error").data(error.to_string()),
    }
}

/// So that proxies and clients notice a connection that died.
pub fn keep_alive() -> KeepAlive {
    KeepAlive::new().interval(Duration::from_secs(15))
}
