//! The model server over HTTP. Inference needs ONNX Runtime, named by DURE_TEST_ONNXRUNTIME; without it those tests are skipped.

mod common;
mod lifecycle;
mod serving;
