//! Journeys: what people do with Dure, done with the real binary in an empty environment.

mod access;
mod bad_input;
mod crash;
mod datasets;
mod environments;
mod main_job;
mod runs;
mod support;
mod surroundings;
mod tenancy;
