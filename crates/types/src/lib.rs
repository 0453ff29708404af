//! What is said: ids, quantities, specs, statuses, API bodies and error codes.
//!
//! Every other crate speaks in these words. There is no IO here and no decision: what should happen
//! is `dure-plan`'s, what is remembered is `dure-store`'s.

pub mod blob;
pub mod change;
pub mod cost;
pub mod dataset;
pub mod environment;
pub mod event;
pub mod id;
pub mod model;
pub mod name;
pub mod node;
pub mod page;
pub mod problem;
pub mod quantity;
pub mod run;
mod schema;
pub mod service;
pub mod spec;
pub mod time;
pub mod user;

pub use blob::{Digest, FileEntry, Manifest};
pub use id::RunId;
pub use name::{Name, Reference, Selector};
pub use page::Page;
pub use problem::{Code, Problem};
pub use quantity::{Cpu, Memory, Money};
pub use time::{Span, Timestamp};
