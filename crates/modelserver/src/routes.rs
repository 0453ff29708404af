//! Paths to answers: the Open Inference Protocol's, and `/predict`.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;
use dure_types::{
    model::TensorSpec,
    problem::{Code, Problem},
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::json;

use crate::{
    Config,
    body::Budget,
    error::Refusal,
    runtime::{self, Model, Question},
};

pub(crate) struct App {
    pub config: Config,
    pub model: OnceLock<Model>,
    pub budget: Budget,
}

/// What a path means; `None` where this server has no such path.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Server,
    Live,
    Ready,
    Model,
    ModelReady,
    Infer,
    Predict,
}

/// Larger bodies are read away from the connections' thread.
const SMALL_BODY: usize = 64 << 10;

impl App {
    fn route(&self, path: &str) -> Result<Route, Refusal> {
        let unknown = || {
            Refusal::new(Code::NotFound, "no such path")
                .next("POST /predict, or the Open Inference Protocol: GET /v2, POST /v2/models/NAME/infer")
        };
        let rest = match path {
            "/predict" => return Ok(Route::Predict),
            "/v2" | "/v2/" => return Ok(Route::Server),
            "/v2/health/live" => return Ok(Route::Live),
            "/v2/health/ready" => return Ok(Route::Ready),
            _ => path.strip_prefix("/v2/models/").ok_or_else(unknown)?,
        };
        let (name, mut rest) = rest.split_once('/').unwrap_or((rest, ""));
        if name != self.config.name {
            return Err(Refusal::new(Code::NotFound, format!("this server has the model {}", self.config.name)));
        }
        if let Some(after) = rest.strip_prefix("versions/") {
            let version;
            (version, rest) = after.split_once('/').unwrap_or((after, ""));
            if version != self.config.version {
                return Err(Refusal::new(
                    Code::NotFound,
                    format!("this server has version {} of {name}", self.config.version),
                ));
            }
        }
        match rest {
            "" => Ok(Route::Model),
            "ready" => Ok(Route::ModelReady),
            "infer" => Ok(Route::Infer),
            _ => Err(unknown()),
        }
    }

    pub async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        // Problems of the protocol's own paths say `error`, too, as it wants.
        let protocol = request.uri().path().starts_with("/v2");
        Ok(self.answer(request).await.unwrap_or_else(|refusal| problem(refusal, protocol)))
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Refusal> {
        let route = self.route(request.uri().path())?;
        let wanted = if matches!(route, Route::Infer | Route::Predict) { Method::POST } else { Method::GET };
        if request.method() != wanted {
            return Err(Refusal::invalid(format!("this path takes {wanted}")).status(405));
        }
        let model = self.model.get();
        let status = |up: bool| if up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let ready = model.is_some();
        let (code, body) = match route {
            Route::Infer => return self.run(Question::Infer, request).await,
            Route::Predict => return self.run(Question::Predict, request).await,
            Route::Server => {
                (StatusCode::OK, json!({"name": "dure", "version": env!("CARGO_PKG_VERSION"), "extensions": []}))
            }
            Route::Live => (StatusCode::OK, json!({"live": true})),
            Route::Ready => (status(ready), json!({"ready": ready})),
            Route::ModelReady => (status(ready), json!({"name": self.config.name, "ready": ready})),
            Route::Model => {
                let signature = &model.ok_or_else(loading)?.signature;
                let tensors = |specs: &[TensorSpec]| -> Vec<_> {
                    specs
                        .iter()
                        .map(|spec| json!({"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}))
                        .collect()
                };
                (
                    StatusCode::OK,
                    json!({
                        "name": self.config.name,
                        "versions": [self.config.version],
                        "platform": "onnxruntime_onnx",
                        "inputs": tensors(&signature.inputs),
                        "outputs": tensors(&signature.outputs),
                    }),
                )
            }
        };
        Ok(respond(code, "application/json", body.to_string().into()))
    }

    async fn run(
        self: &Arc<Self>,
        question: Question,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let model = self.model.get().ok_or_else(loading)?;
        let headers = request.headers();
        if headers.contains_key("inference-header-content-length") {
            return Err(Refusal::invalid(
                "the binary tensor extension is not supported: send the values as JSON, in `data`",
            )
            .status(415));
        }
        if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(Refusal::invalid("compressed bodies are not supported").status(415));
        }
        let body = self.budget.read(request.into_body()).await?;
        let answer = match model.session.try_lock() {
            Ok(mut session) if body.bytes.len() <= SMALL_BODY && model.pace.is_quick() => {
                let start = Instant::now();
                let answer = runtime::answer(&self.config, &model.signature, &mut session, question, &body.bytes);
                model.pace.took(start.elapsed());
                answer
            }
            other => {
                drop(other);
                self.run_apart(model, question, body.bytes.clone()).await
            }
        }?;
        Ok(respond(StatusCode::OK, "application/json", answer.into()))
    }

    /// On another thread, one request at a time, so that connections and health checks are served meanwhile.
    async fn run_apart(self: &Arc<Self>, model: &Model, question: Question, body: Bytes) -> Result<Vec<u8>, Refusal> {
        let mut session = Arc::clone(&model.session).lock_owned().await;
        let app = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            let answer = match app.model.get() {
                Some(model) => runtime::answer(&app.config, &model.signature, &mut session, question, &body),
                None => Err(loading()),
            };
            (answer, start.elapsed(), body.len())
        });
        let (answer, time, size) =
            work.await.map_err(|error| Refusal::internal(format!("the request was not finished: {error}")))?;
        // A large request says nothing about how long a small one takes.
        if size <= SMALL_BODY {
            model.pace.took(time);
        }
        answer
    }
}

fn loading() -> Refusal {
    Refusal::new(Code::NotReady, "the model is being loaded").next("wait until GET /v2/health/ready answers 200")
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn problem(refusal: Refusal, protocol: bool) -> Response<Full<Bytes>> {
    #[derive(serde::Serialize)]
    struct ProtocolProblem<'p> {
        error: &'p str,
        #[serde(flatten)]
        problem: &'p Problem,
    }
    let problem = refusal.problem();
    let body = if protocol {
        serde_json::to_vec(&ProtocolProblem { error: &problem.detail, problem: &problem })
    } else {
        serde_json::to_vec(&problem)
    };
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(status, Problem::CONTENT_TYPE, body.unwrap_or_default().into());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
