//! What should happen. Pure functions and plain state, `(state, now) -> actions`: no IO, no clock, no
//! randomness, so that every decision can be tested as a table and replayed.
//!
//! It does not carry anything out (the server's controllers do) and remembers nothing (the store does).

pub mod clock;
pub mod cost;
pub mod identity;
pub mod lifecycle;
pub mod metric;
pub mod permission;
pub mod price;
pub mod replica;
pub mod schedule;
pub mod why;
