//! What a replica of an ONNX model needs: the environment that ONNX Runtime's library is taken from.

use dure_types::environment::EnvironmentInput;

/// The version that `ort` was built against; its wheel carries the library for every Python.
const PACKAGES: &[&str] = &["onnxruntime==1.32.*"];

pub fn input() -> EnvironmentInput {
    EnvironmentInput { packages: PACKAGES.iter().map(|package| (*package).to_owned()).collect(), ..Default::default() }
}
