//! What is read from an ONNX file without ONNX Runtime, and what is said of files that are none.

use dure_modelserver::{ModelError, onnx};
use dure_types::model::{Datatype, TensorSpec};
use proptest::prelude::*;

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

fn described(specs: &[TensorSpec]) -> Vec<String> {
    specs.iter().map(TensorSpec::describe).collect()
}

/// A protobuf field of bytes.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[tag << 3 | 2, content.len() as u8], content].concat()
}

#[test]
fn a_classifier_says_what_it_takes_and_what_its_maps_are_keyed_by() {
    let model = onnx::read(&fixture("classifier")).unwrap();
    assert_eq!(described(&model.signature.inputs), ["X FP32 [n,4]"]);
    assert_eq!(described(&model.signature.outputs), ["output_label INT64 [n]", "output_probability FP32 [n,classes]"]);
    assert_eq!(model.signature.outputs[1].map_keys, Some(Datatype::Int64));
    assert_eq!(model.producer, "skl2onnx");
    assert!(model.opsets.iter().any(|(domain, _)| domain == "ai.onnx.ml"));
    let strings = onnx::signature(&fixture("classifier_strings")).unwrap();
    assert_eq!(strings.outputs[0].datatype, Datatype::Bytes);
    assert_eq!(strings.outputs[1].map_keys, Some(Datatype::Bytes));
}

#[test]
fn several_inputs_and_every_datatype_are_named_as_the_protocol_names_them() {
    let table = onnx::signature(&fixture("table")).unwrap();
    assert_eq!(described(&table.inputs), ["sepal_length FP32 [n,1]", "sepal_width FP32 [n,1]", "species BYTES [n,1]"]);
    let datatypes: Vec<_> =
        onnx::signature(&fixture("datatypes")).unwrap().inputs.iter().map(|spec| spec.datatype.as_str()).collect();
    assert_eq!(
        datatypes,
        [
            "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32",
            "FP64", "BYTES"
        ]
    );
}

#[test]
fn a_weight_that_is_listed_among_the_inputs_is_not_an_input() {
    let images = onnx::signature(&fixture("images")).unwrap();
    assert_eq!(described(&images.inputs), ["images FP32 [n,2,3]"]);
    assert_eq!(described(&images.outputs), ["scaled FP32 [n,2,3]", "total FP32 []"]);
}

#[test]
fn a_file_that_is_no_onnx_model_is_named_with_the_way_to_one() {
    let cases: [(&[u8], &str, &str); 9] = [
        (b"", "an empty file", "export"),
        (b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c", "a Python pickle", "skl2onnx"),
        (b"PK\x03\x04....archive/data.pkl", "a PyTorch checkpoint", "torch.onnx.export"),
        (b"PK\x03\x04....readme.txt", "a ZIP file", "take the .onnx file out"),
        (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file (Keras)", "tf2onnx"),
        (b"GGUF\x03\0\0\0", "a GGUF language model", "not served"),
        (b"import torch\nprint('model')\n", "a text file", "export"),
        (b"{\"a\": 1}", "a text file", "export"),
        (b"\xff\xfe\x00\x01\x02", "an unknown binary file", "export"),
    ];
    for (bytes, found, advice) in cases {
        let error = onnx::signature(bytes).unwrap_err();
        assert!(matches!(error, ModelError::NotOnnx { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(found) && text.contains(advice), "{text}");
    }
}

#[test]
fn a_model_that_is_cut_short_is_called_damaged() {
    let bytes = fixture("classifier");
    for length in 1..bytes.len() {
        let error = onnx::signature(&bytes[..length]).err();
        assert!(error.as_ref().is_none_or(|error| matches!(error, ModelError::Damaged(_))), "{length}: {error:?}");
    }
    let error = onnx::signature(&bytes[..bytes.len() / 2]).unwrap_err().to_string();
    assert!(error.contains("cut short or damaged"), "{error}");
}

#[test]
fn weights_in_another_file_and_inputs_that_are_no_tensors_are_refused_with_the_reason() {
    let opset = field(8, &[0x10, 17]);
    let model = |graph: &[u8]| [&[0x08, 8][..], &opset, &field(7, graph)].concat();
    // TensorProto: name (8) and data_location (14) EXTERNAL.
    let weight = [field(8, b"w"), vec![14 << 3, 1]].concat();
    let error = onnx::signature(&model(&field(5, &weight))).unwrap_err().to_string();
    assert!(error.contains("external data"), "{error}");
    // ValueInfoProto: name (1), type (2) of a sequence (4) of tensors (1) of floats.
    let sequence = field(4, &field(1, &field(1, &[0x08, 1])));
    let input = [field(1, b"words"), field(2, &sequence)].concat();
    let output = [field(1, b"y"), field(2, &field(1, &[0x08, 1]))].concat();
    let error = onnx::signature(&model(&[field(11, &input), field(12, &output)].concat())).unwrap_err().to_string();
    assert!(error.contains("input words is a sequence"), "{error}");
    let twice = [field(12, &output), field(12, &output)].concat();
    assert!(onnx::signature(&model(&twice)).unwrap_err().to_string().contains("the same name"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_never_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = onnx::signature(&bytes);
    }

    #[test]
    fn reading_never_panics_on_a_model_with_changed_bytes(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12), cut in any::<prop::sample::Index>()) {
        let mut bytes = fixture("datatypes");
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let _ = onnx::signature(&bytes);
        let _ = onnx::signature(&bytes[..cut.index(bytes.len())]);
    }
}
