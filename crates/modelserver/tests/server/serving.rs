//! Real models, answered by a real ONNX Runtime over HTTP, compared with what onnxruntime answers in Python.

use crate::common::{Answer, Running, fixture};
use serde_json::{Value, json};

fn expected(model: &str) -> (Value, Value) {
    let text = std::fs::read_to_string(format!("{}/tests/fixtures/expected.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut all: Value = serde_json::from_str(&text).unwrap();
    let model = all[model].take();
    (model["inputs"].clone(), model["outputs"].clone())
}

/// Equal up to the last digits of a float.
fn assert_close(got: &Value, wanted: &Value) {
    match (got, wanted) {
        (Value::Array(got), Value::Array(wanted)) => {
            assert_eq!(got.len(), wanted.len(), "{got:?} {wanted:?}");
            got.iter().zip(wanted).for_each(|(got, wanted)| assert_close(got, wanted));
        }
        (Value::Object(got), Value::Object(wanted)) => {
            assert_eq!(got.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
            got.iter().for_each(|(key, value)| assert_close(value, &wanted[key]));
        }
        (Value::Number(got), Value::Number(wanted)) => {
            let (got, wanted) = (got.as_f64().unwrap(), wanted.as_f64().unwrap());
            assert!((got - wanted).abs() <= 1e-5 * wanted.abs().max(1.0), "{got} is not {wanted}");
        }
        _ => assert_eq!(got, wanted),
    }
}

fn detail(answer: &Answer) -> &str {
    answer.body["detail"].as_str().unwrap_or_else(|| panic!("no detail: {}", answer.body))
}

const INFER: &str = "/v2/models/flowers/infer";

#[tokio::test]
async fn a_classifier_answers_maps_as_a_tensor_with_labels_and_as_rows() {
    for (model, labels, label_type) in [
        ("classifier", json!([0, 1, 2]), "INT64"),
        ("classifier_strings", json!(["setosa", "versicolor", "virginica"]), "BYTES"),
    ] {
        let Some(server) = Running::start(model).await else { return };
        let (inputs, outputs) = expected(model);
        let request = json!({"id": "a \"1\"", "inputs": [{"name": "X", "shape": [3, 4], "datatype": "FP32", "data": inputs["X"]}]});
        let answer = server.post(INFER, request.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body["model_name"], "flowers");
        assert_eq!(answer.body["model_version"], "3");
        assert_eq!(answer.body["id"], "a \"1\"");
        let [label, probability] = answer.body["outputs"].as_array().unwrap().as_slice() else {
            panic!("{}", answer.body)
        };
        assert_eq!(
            (&label["name"], &label["datatype"], &label["shape"]),
            (&json!("output_label"), &json!(label_type), &json!([3]))
        );
        assert_eq!(label["data"], outputs["output_label"]);
        assert_eq!(probability["shape"], json!([3, 3]));
        assert_eq!(probability["parameters"]["labels"], labels);
        let flat: Vec<&Value> = outputs["output_probability"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row.as_object().unwrap().values())
            .collect();
        assert_close(&probability["data"], &json!(flat));

        let answer = server.post("/predict", json!({"rows": inputs["X"]}).to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let rows = answer.body["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 3);
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(row["output_label"], outputs["output_label"][index]);
            assert_close(&row["output_probability"], &outputs["output_probability"][index]);
        }
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn tensors_and_single_numbers_are_answered_as_rows() {
    let Some(server) = Running::start("classifier_tensor").await else { return };
    let (inputs, outputs) = expected("classifier_tensor");
    let answer = server.post("/predict", json!({"rows": inputs["X"]}).to_string()).await;
    assert_close(&answer.body["rows"][2]["probabilities"], &outputs["probabilities"][2]);
    assert_eq!(answer.body["rows"][2]["label"], 2);
    // By the input's own name, too, and none at all.
    let answer = server.post("/predict", json!({"rows": [{"X": inputs["X"][1]}]}).to_string()).await;
    assert_eq!(answer.body["rows"][0]["label"], 1);
    let answer = server.post("/predict", r#"{"rows": []}"#).await;
    assert_eq!((answer.status, &answer.body["rows"]), (200, &json!([])));

    let Some(server) = Running::start("regressor").await else { return };
    let (inputs, outputs) = expected("regressor");
    let answer = server.post("/predict", json!({"rows": inputs["X"]}).to_string()).await;
    assert_close(&answer.body["rows"][1]["variable"], &outputs["variable"][1][0]);
}

#[tokio::test]
async fn several_named_inputs_with_text_are_taken_by_name_and_by_order() {
    let Some(server) = Running::start("table").await else { return };
    let (inputs, outputs) = expected("table");
    let cell = |name: &str, row: usize| inputs[name][row][0].clone();
    let named: Vec<Value> =
        (0..3).map(|row| json!({"species": cell("species", row), "sepal_length": cell("sepal_length", row), "sepal_width": [cell("sepal_width", row)]})).collect();
    // One value may stand alone or in a list, but in the same way in every row.
    let answer = server.post("/predict", json!({"rows": named}).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let wanted: Vec<Value> = (0..3).map(|row| json!({"variable": outputs["variable"][row][0]})).collect();
    assert_close(&answer.body["rows"], &json!(wanted));
    let listed: Vec<Value> =
        (0..3).map(|row| json!([cell("sepal_length", row), cell("sepal_width", row), cell("species", row)])).collect();
    assert_close(&server.post("/predict", json!({"rows": listed}).to_string()).await.body["rows"], &json!(wanted));

    let mut tensors = vec![
        json!({"name": "species", "shape": [3, 1], "datatype": "BYTES", "data": inputs["species"]}),
        json!({"name": "sepal_width", "shape": [3, 1], "datatype": "FP32", "data": inputs["sepal_width"]}),
        json!({"name": "sepal_length", "shape": [3, 1], "datatype": "FP32", "data": inputs["sepal_length"]}),
    ];
    let answer = server.post(INFER, json!({"inputs": tensors}).to_string()).await;
    assert_close(
        &answer.body["outputs"][0]["data"],
        &json!(outputs["variable"].as_array().unwrap().iter().map(|row| &row[0]).collect::<Vec<_>>()),
    );

    let refused = |rows: Value| server.post("/predict", json!({"rows": rows}).to_string());
    let answer = refused(json!([{"sepal_length": 1, "species": "setosa"}])).await;
    assert!(answer.status == 400 && detail(&answer).contains("row 0 lacks sepal_width"), "{}", answer.body);
    let answer = refused(json!([{"sepal_length": 1, "sepal_width": 1, "species": "setosa", "colour": 1}])).await;
    assert!(
        detail(&answer).contains("\"colour\", which is no input; this model takes sepal_length, sepal_width, species"),
        "{}",
        answer.body
    );
    let answer = refused(json!([[1, 2]])).await;
    assert!(detail(&answer).contains("row 0 has 2 values; this model takes 3: sepal_length"), "{}", answer.body);
    let answer = refused(json!([[1, 2, 3]])).await;
    assert!(
        detail(&answer)
            .contains("input species (BYTES [n,1]): expected strings (BYTES), without NUL characters, got 3"),
        "{}",
        answer.body
    );
    let answer = refused(json!([{"sepal_length": 1, "sepal_width": 1, "species": "tulip"}])).await;
    assert!(answer.status == 422 && detail(&answer).contains("the model failed on this input"), "{}", answer.body);
    tensors.pop();
    let empty = json!({"name": "sepal_length", "shape": [0, 1], "datatype": "FP32", "data": []});
    let with_empty: Vec<Value> = tensors.iter().cloned().chain([empty]).collect();
    let answer = server.post(INFER, json!({"inputs": with_empty}).to_string()).await;
    assert!(answer.status == 400 && detail(&answer).contains("sepal_length has 0, species has 3"), "{}", answer.body);
    let answer = server.post(INFER, json!({"inputs": tensors}).to_string()).await;
    assert!(detail(&answer).contains("missing input: sepal_length FP32 [n,1]"), "{}", answer.body);
}

#[tokio::test]
async fn every_datatype_comes_back_as_it_went_in() {
    let Some(server) = Running::start("datatypes").await else { return };
    let values = [
        ("bool", "BOOL", json!([true, false, false, true])),
        ("uint8", "UINT8", json!([0, 255, 7, 8])),
        ("uint16", "UINT16", json!([0, 65535, 7, 8])),
        ("uint32", "UINT32", json!([0, 4294967295u32, 7, 8])),
        ("uint64", "UINT64", json!([0, u64::MAX, 7, 8])),
        ("int8", "INT8", json!([-128, 127, 0, 8])),
        ("int16", "INT16", json!([-32768, 32767, 0, 8])),
        ("int32", "INT32", json!([i32::MIN, i32::MAX, 0, 8])),
        ("int64", "INT64", json!([i64::MIN, i64::MAX, 0, 8])),
        ("float16", "FP16", json!([1.5, -65504.0, null, 0.25])),
        ("bfloat16", "BF16", json!([1.5, -3.0, null, 0.25])),
        ("float", "FP32", json!([1.5, -0.1, null, 3e38])),
        ("double", "FP64", json!([1.5, -0.1, null, 1e300])),
        ("string", "BYTES", json!(["a", "", "\"\\\n", "손글씨"])),
    ];
    // Flat, nested, and with the data before what it is called.
    let flat = |values: &Value| values.clone();
    let nested = |values: &Value| json!([[values[0], values[1]], [values[2], values[3]]]);
    let inputs: Vec<Value> = values
        .iter()
        .enumerate()
        .map(|(index, (name, datatype, data))| {
            let data = if index % 2 == 0 { flat(data) } else { nested(data) };
            let name = format!("{name}_in");
            if index % 3 == 0 {
                json!({"data": data, "shape": [2, 2], "datatype": datatype, "name": name})
            } else {
                json!({"name": name, "shape": [2, 2], "datatype": datatype, "data": data})
            }
        })
        .collect();
    let answer = server.post(INFER, json!({"inputs": inputs}).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    for ((name, datatype, data), output) in values.iter().zip(answer.body["outputs"].as_array().unwrap()) {
        assert_eq!(output["name"], format!("{name}_out"));
        assert_eq!(output["datatype"], *datatype);
        assert_eq!(output["shape"], json!([2, 2]));
        assert_close(&output["data"], data);
    }
    let wanted = json!({"inputs": inputs, "outputs": [{"name": "string_out"}, {"name": "bool_out"}]});
    let answer = server.post(INFER, wanted.to_string()).await;
    let names: Vec<&Value> = answer.body["outputs"].as_array().unwrap().iter().map(|output| &output["name"]).collect();
    assert_eq!(names, ["string_out", "bool_out"]);

    let with = |name: &str, data: Value| {
        let mut inputs = inputs.clone();
        inputs.iter_mut().filter(|input| input["name"] == name).for_each(|input| input["data"] = data.clone());
        server.post(INFER, json!({"inputs": inputs}).to_string())
    };
    for (name, data, said) in [
        ("uint8_in", json!([0, 256, 0, 0]), "expected UINT8 values, got 256"),
        ("int64_in", json!([0, 0.5, 0, 0]), "expected INT64 values, got 0.5"),
        ("float_in", json!([0, 1e39, 0, 0]), "expected FP32 values, got"),
        ("float_in", json!([0, "1", 0, 0]), "expected FP32 values, got \"1\""),
        ("bool_in", json!([0, 1, 0, 1]), "expected BOOL values (true or false), got 0"),
        ("string_in", json!(["a\0b", "", "", ""]), "without NUL"),
        ("int32_in", json!([[1, 2], [3]]), "arrays of different lengths: 2 and 1"),
        ("int32_in", json!([[1, 2], 3, 4]), "mixed"),
        ("int32_in", json!([[1, 2, 3, 4]]), "shape [2, 2] has 4 values, and data holds nested lists of sizes [1, 4]"),
        ("int32_in", json!([1, 2, 3]), "shape [2, 2] has 4 values, and data holds 3"),
    ] {
        let answer = with(name, data).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(detail(&answer).contains(name) && detail(&answer).contains(said), "{said}: {}", answer.body);
    }
}

#[tokio::test]
async fn images_are_taken_nested_or_flat_and_outputs_without_rows_are_refused_by_predict() {
    let Some(server) = Running::start("images").await else { return };
    let (inputs, outputs) = expected("images");
    let answer = server
        .post(
            INFER,
            json!({"inputs": [{"name": "images", "shape": [2, 2, 3], "datatype": "FP32", "data": inputs["images"]}]})
                .to_string(),
        )
        .await;
    assert_eq!(answer.body["outputs"][1]["shape"], json!([]));
    assert_close(&answer.body["outputs"][1]["data"][0], &outputs["total"]);
    let answer = server.post("/predict", json!({"rows": inputs["images"]}).to_string()).await;
    assert!(
        answer.status == 400
            && detail(&answer).contains("output total has the shape [], which is not one value for each"),
        "{}",
        answer.body
    );
    let answer = server.post("/predict", json!({"rows": [[1, 2, 3]]}).to_string()).await;
    assert!(detail(&answer).contains("input images: expected FP32 [n,2,3], got [1,3]"), "{}", answer.body);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_what_was_expected() {
    let Some(server) = Running::start("classifier").await else { return };
    let infer = |name: &str, shape: Value, datatype: &str, data: Value| {
        server.post(
            INFER,
            json!({"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data}]}).to_string(),
        )
    };
    let answer = infer("X", json!([1, 3]), "FP32", json!([1, 2, 3])).await;
    assert_eq!((answer.status, answer.kind.as_str()), (400, "application/problem+json"));
    assert_eq!(detail(&answer), "input X: expected FP32 [n,4], got [1,3]");
    assert_eq!(answer.body["error"], answer.body["detail"]);
    assert_eq!((&answer.body["code"], &answer.body["status"]), (&json!("E0604"), &json!(400)));
    assert!(answer.body["title"].is_string() && answer.body["type"].is_string());
    for (answer, said) in [
        (infer("X", json!([4]), "FP32", json!([1, 2, 3, 4])).await, "input X: expected FP32 [n,4], got [4]"),
        (infer("X", json!([-1, 4]), "FP32", json!([1, 2, 3, 4])).await, "got [-1,4]"),
        (infer("X", json!([4611686018427387904i64, 4]), "FP32", json!([])).await, "got [4611686018427387904,4]"),
        (infer("X", json!([1, 4]), "FP64", json!([1, 2, 3, 4])).await, "input X: expected FP32 [n,4], got FP64"),
        (infer("X", json!([1, 4]), "FLOAT", json!([1, 2, 3, 4])).await, "unknown variant `FLOAT`"),
        (
            infer("Y", json!([1, 4]), "FP32", json!([1, 2, 3, 4])).await,
            "no input named \"Y\"; this model takes X FP32 [n,4]",
        ),
        (server.post(INFER, r#"{"inputs": []}"#).await, "missing input: X FP32 [n,4]"),
        (server.post(INFER, r#"{"rows": []}"#).await, "unknown field \"rows\""),
        (
            server.post(INFER, r#"{"inputs": [{"name": "X", "parameters": {"binary_data_size": 16}}]}"#).await,
            "binary tensor extension",
        ),
        (server.post(INFER, "{\"inputs\": [").await, "not valid JSON"),
        (server.post(INFER, "").await, "not valid JSON"),
        (server.post(INFER, "[".repeat(100_000)).await, ""),
        (
            server.post("/predict", json!({"rows": [[1, 2, 3, 4], [1, 2, 3]]}).to_string()).await,
            "row 1: input X (FP32 [n,4]): arrays of different lengths: 4 and 3",
        ),
        (
            server.post("/predict", json!({"rows": [[1, 2, 3]]}).to_string()).await,
            "input X: expected FP32 [n,4], got [1,3]",
        ),
        (
            server.post("/predict", json!({"rows": [{"sepal_length": 1}]}).to_string()).await,
            "the one input X [n,4]: give each row as a list of 4 values",
        ),
        (server.post("/predict", json!({"rows": {"a": 1}}).to_string()).await, "a list of rows"),
        (server.post("/predict", json!([[1, 2, 3, 4]]).to_string()).await, "{\"rows\": [...]}"),
    ] {
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(detail(&answer).contains(said), "{said}: {}", answer.body);
    }
    // It still answers.
    assert_eq!(infer("X", json!([1, 4]), "FP32", json!([5.1, 3.5, 1.4, 0.2])).await.status, 200);
}

#[tokio::test]
async fn the_protocols_paths_tell_about_server_and_model() {
    let Some(server) = Running::start("classifier").await else { return };
    assert_eq!(server.get("/v2").await.body["name"], "dure");
    assert_eq!(server.get("/v2/health/live").await.body, json!({"live": true}));
    assert_eq!(server.get("/v2/models/flowers/versions/3/ready").await.body, json!({"name": "flowers", "ready": true}));
    let model = server.get("/v2/models/flowers").await.body;
    assert_eq!(model["inputs"], json!([{"name": "X", "datatype": "FP32", "shape": [-1, 4]}]));
    assert_eq!(model["versions"], json!(["3"]));
    assert_eq!(server.get("/v2/models/flowers/versions/3").await.body, model);
    for (answer, status, said) in [
        (server.get("/v2/models/weeds").await, 404, "this server has the model flowers"),
        (server.get("/v2/models/flowers/versions/4/ready").await, 404, "this server has version 3"),
        (server.get("/v2/models/flowers/explain").await, 404, "no such path"),
        (server.get("/metrics").await, 404, "no such path"),
        (server.get(INFER).await, 405, "this path takes POST"),
    ] {
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(detail(&answer).contains(said), "{}", answer.body);
    }
    let binary = hyper::Request::post(INFER)
        .header("host", "model")
        .header("Inference-Header-Content-Length", "10")
        .body(Default::default())
        .unwrap();
    let answer = server.send(binary).await;
    assert!(answer.status == 415 && detail(&answer).contains("binary tensor extension"), "{}", answer.body);
}

#[tokio::test]
async fn large_requests_are_answered_and_too_large_ones_refused() {
    let Some(server) = Running::launch(fixture("classifier_tensor"), |config| config.max_body = 1 << 20).await else {
        return;
    };
    server.wait_until_ready().await;
    let rows = vec![[5.1, 3.5, 1.4, 0.2]; 20_000];
    let body = json!({"rows": rows}).to_string();
    assert!(body.len() > 300_000 && body.len() < 1 << 20);
    let answer = server.post("/predict", body.clone()).await;
    assert_eq!(answer.body["rows"].as_array().unwrap().len(), 20_000);
    let answer = server.post("/predict", body.repeat(3)).await;
    assert_eq!(answer.status, 413);
    assert!(detail(&answer).contains("a request may have 1048576 bytes"), "{}", answer.body);
}
