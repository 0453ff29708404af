//! The one place that knows them all: the API, the controllers, authentication, and the assembled
//! control plane.
//!
//! It decides nothing by itself (`dure-plan` does) and knows no SQL, no process and no HTTP proxying
//! (`dure-store`, `dure-engine`, `dure-gateway` do).

mod api;
mod app;
mod auth;
mod change;
mod config;
mod controllers;
mod core;
mod error;
mod first_start;
mod logs;
mod python;
mod serving;
mod shutdown;
mod tls;
mod work;

pub use app::{App, Banner};
pub use config::{Config, StartError, Tls};

/// The OpenAPI document of the API, the JSON Schema of the spec embedded.
pub fn openapi() -> serde_json::Value {
    api::openapi()
}
