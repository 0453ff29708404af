//! How a model answers: ONNX Runtime behind the Open Inference Protocol v2 and `POST /predict`.
//!
//! One process serves one model. Connections, JSON and short inferences share one thread, because that
//! costs the least CPU per request; what takes long goes to a second one. ONNX Runtime is loaded at run
//! time from the `onnxruntime` wheel of a managed environment, so nothing native is linked.
//!
//! It deliberately does not authenticate, balance, meter, queue or time out slow clients (the gateway in
//! front does), does not batch requests of several clients, and does not take the protocol's binary tensor
//! extension.

mod answer;
mod body;
mod config;
mod element;
mod error;
mod half;
mod identify;
mod infer;
mod library;
pub mod onnx;
mod predict;
mod routes;
mod runtime;
mod serve;
mod tensor;

pub use config::{Config, DEFAULT_MAX_BODY, Listen};
pub use error::ModelError;
pub use library::find_library;
pub use serve::{Server, serve, serve_blocking};
