//! What makes the wanted happen: each controller loads state, asks `dure-plan`, carries the actions out
//! and writes what it saw. Woken by events; a sweep now and then finds what no event told.

mod probe;
pub mod run;
pub mod service;
pub mod submit;
