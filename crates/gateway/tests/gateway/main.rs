//! The gateway through real sockets, in front of real HTTP servers.

mod access;
mod failures;
mod lifecycle;
mod proxying;
mod support;
