//! Names what a file is that is not an ONNX model, so that the error can say how to get one.

use crate::ModelError;

const SKLEARN: &str =
    "convert the scikit-learn estimator with skl2onnx.to_onnx(model, X[:1]) and save its SerializeToString()";
const TORCH: &str = "export it with torch.onnx.export(model, example_inputs, \"model.onnx\")";
const KERAS: &str = "convert it with tf2onnx or keras_model.export(\"model.onnx\", format=\"onnx\")";
const EXPORT: &str = "export the model as ONNX (skl2onnx, torch.onnx.export, tf2onnx)";

/// The formats that begin with their own signature.
pub(crate) fn by_magic(bytes: &[u8]) -> Option<ModelError> {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let (found, advice) = if bytes.is_empty() {
        ("an empty file", EXPORT)
    } else if at(0, b"PK\x03\x04") {
        if contains(bytes, b"data.pkl") {
            ("a PyTorch checkpoint (a ZIP file)", TORCH)
        } else if contains(bytes, b"model.weights.h5") {
            ("a Keras model (a ZIP file)", KERAS)
        } else {
            ("a ZIP file", "take the .onnx file out of it, or export one (skl2onnx, torch.onnx.export, tf2onnx)")
        }
    } else if bytes.len() > 2 && bytes[0] == 0x80 && (2..=5).contains(&bytes[1]) {
        ("a Python pickle (joblib, scikit-learn or an old PyTorch file)", SKLEARN)
    } else if at(0, b"\x89HDF\r\n\x1a\n") {
        ("an HDF5 file (Keras)", KERAS)
    } else if at(4, b"TFL3") {
        ("a TensorFlow Lite model", "convert it with tf2onnx --tflite")
    } else if at(4, b"ORTM") {
        ("an ONNX Runtime .ort file", "register the .onnx file that it was made from")
    } else if at(0, b"GGUF") {
        ("a GGUF language model", "GGUF is not served by this server")
    } else if at(8, b"{\"") {
        ("a safetensors file, which holds weights without a graph", TORCH)
    } else if at(0, b"\x93NUMPY") {
        ("a NumPy array", EXPORT)
    } else if at(0, b"\x1f\x8b") {
        ("a gzip file", "unpack it first")
    } else if at(0, b"\x7fELF") {
        ("a program or shared library (ELF)", EXPORT)
    } else if at(0, b"<?xml") || at(0, b"<PMML") {
        ("an XML file", EXPORT)
    } else {
        return None;
    };
    Some(ModelError::NotOnnx { found, advice })
}

/// What is left once the bytes were read as a model and were none.
pub(crate) fn otherwise(bytes: &[u8]) -> ModelError {
    let head = &bytes[..bytes.len().min(512)];
    let text =
        head.iter().all(|byte| (0x20..0x7f).contains(byte) || matches!(byte, b'\n' | b'\r' | b'\t') || *byte >= 0x80);
    if text {
        ModelError::NotOnnx { found: "a text file", advice: EXPORT }
    } else {
        ModelError::NotOnnx { found: "an unknown binary file", advice: EXPORT }
    }
}

/// Looks at both ends only: a ZIP file names its members at the start and in the directory at its end.
fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    const ENDS: usize = 64 << 10;
    let head = &bytes[..bytes.len().min(ENDS)];
    let tail = &bytes[bytes.len().saturating_sub(ENDS)..];
    [head, tail].iter().any(|part| part.windows(needle.len()).any(|window| window == needle))
}
