//! Everything that is not a service: handed to the API on the runtime that the gateway was started
//! from, so that a slow handler never holds up a worker. Bodies stream across in both directions.

use std::pin::pin;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tower::{Service, ServiceExt};

use crate::{
    body::{ApiStream, BoxError, Kind},
    problem::Refusal,
};

/// The body of a request to the API.
pub type ApiBody = Incoming;

/// Frames that may wait between the two runtimes.
const WINDOW: usize = 8;

type Answer = Result<Response<ApiStream>, Refusal>;

/// The API as a worker calls it; what type of service it is ends here.
pub(crate) struct Api(Box<dyn Fn(Request<ApiBody>) -> oneshot::Receiver<Answer> + Send>);

impl Api {
    pub fn new<A, B>(main: Handle, api: A) -> Self
    where
        A: Service<Request<ApiBody>, Response = Response<B>> + Clone + Send + 'static,
        A::Future: Send,
        A::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Box::new(move |request| {
            let (answer, answered) = oneshot::channel();
            main.spawn(run(api.clone(), request, answer));
            answered
        }))
    }

    pub async fn call(&self, request: Request<ApiBody>) -> Result<Response<Kind>, Refusal> {
        let answer = (self.0)(request).await.unwrap_or(Err(Refusal::ApiStopped));
        answer.map(|response| response.map(Kind::Api))
    }
}

/// Ends when the caller leaves, as a handler would under any other server.
async fn run<A, B>(api: A, request: Request<ApiBody>, mut answer: oneshot::Sender<Answer>)
where
    A: Service<Request<ApiBody>, Response = Response<B>>,
    A::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let response = tokio::select! {
        response = api.oneshot(request) => response.map_err(Into::into),
        () = answer.closed() => return,
    };
    let (parts, body) = match response {
        Ok(response) => response.into_parts(),
        Err(error) => {
            tracing::error!(%error, "the API failed");
            let _ = answer.send(Err(Refusal::ApiFailed));
            return;
        }
    };
    let (frames, receiver) = mpsc::channel(WINDOW);
    let stream = ApiStream { frames: receiver, remaining: body.size_hint().exact(), ended: body.is_end_stream() };
    let ended = stream.ended;
    if answer.send(Ok(Response::from_parts(parts, stream))).is_err() || ended {
        return;
    }
    let mut body = pin!(body);
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = frames.closed() => return,
        };
        let item = frame.transpose().map_err(Into::into);
        let last = !matches!(item, Ok(Some(_)));
        if frames.send(item).await.is_err() || last {
            return;
        }
    }
}
