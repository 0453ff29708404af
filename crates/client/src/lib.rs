//! Typed HTTP client of the API: one method for each operation, by the operation's name.
//!
//! It knows addresses, tokens, timeouts, and how to go on where a connection broke: followed logs after
//! their last byte, uploads at the byte that the server has. It keeps no profile, asks nobody and
//! prints nothing; that is the command line's.

mod change;
mod dataset;
mod download;
mod environment;
mod error;
mod event;
mod follow;
mod http;
mod model;
mod node;
mod page;
mod run;
mod service;
mod sse;
mod upload;
mod user;

pub use self::{
    error::ClientError,
    follow::{LogEvent, MetricEvent},
    http::Client,
    page::pages,
    upload::{hash_file, hash_files},
};
