//! Why the gateway answers itself, as RFC 9457 problems.

use bytes::Bytes;
use dure_types::{Code, Problem};
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoToken,
    UnknownToken,
    /// Also for a service of a project that the caller is not in: a stranger learns nothing.
    UnknownService,
    Climbing,
    /// A service is no proxy.
    Connect,
    NotReady {
        service: String,
        reason: Option<String>,
    },
    /// Every replica refused the connection.
    NoneConnects {
        service: String,
    },
    /// The replica closed the connection, or broke the protocol, before it began to answer.
    Died {
        service: String,
    },
    TimedOut {
        service: String,
        seconds: u64,
    },
    ApiStopped,
    ApiFailed,
}

impl Refusal {
    fn problem(&self) -> Problem {
        let authorization = "send the header `Authorization: Bearer TOKEN` with a valid token";
        match self {
            Self::NoToken => {
                Problem::new(Code::Unauthenticated, "the request carries no bearer token").next(authorization)
            }
            Self::UnknownToken => {
                Problem::new(Code::Unauthenticated, "the bearer token is not known, or it was revoked")
                    .next(authorization)
            }
            Self::UnknownService => {
                Problem::new(Code::NotFound, "there is no such service, or this token does not reach it")
                    .next("the path is /s/PROJECT/SERVICE/...; `dure service list` shows the services")
            }
            Self::Climbing => Problem::new(Code::RequestInvalid, "the path steps up with `..`")
                .next("send the path that is meant, without `..`"),
            Self::Connect => Problem::new(Code::RequestInvalid, "a service does not take CONNECT"),
            Self::NotReady { service, reason } => {
                let reason = reason.as_deref().unwrap_or("it has no ready replica");
                Problem::new(Code::NotReady, format!("service {service} is not ready: {reason}")).next(show(service))
            }
            Self::NoneConnects { service } => {
                Problem::new(Code::NotReady, format!("no replica of service {service} accepts connections"))
                    .next(show(service))
            }
            Self::Died { service } => {
                let detail = format!("a replica of service {service} ended the connection before it answered");
                Problem::new(Code::Upstream, detail).next(show(service))
            }
            Self::TimedOut { service, seconds } => {
                let detail = format!("a replica of service {service} did not begin to answer within {seconds} s");
                Problem::new(Code::UpstreamTimeout, detail).next(show(service))
            }
            Self::ApiStopped => {
                Problem::new(Code::Internal, "the API gave no answer: it is stopping, or this is a fault in Dure")
                    .next("try again")
            }
            Self::ApiFailed => Problem::new(Code::Internal, "the API failed: this is a fault in Dure"),
        }
    }

    pub fn status(&self) -> u16 {
        self.problem().status
    }

    pub fn response(&self) -> Response<Full<Bytes>> {
        let problem = self.problem();
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(Problem::CONTENT_TYPE));
        match self {
            Self::NoToken => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"dure\""));
            }
            Self::UnknownToken => {
                let challenge = "Bearer realm=\"dure\", error=\"invalid_token\"";
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            Self::NotReady { .. } | Self::NoneConnects { .. } => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
            }
            _ => {}
        }
        response
    }
}

/// `service` is `PROJECT/SERVICE`.
fn show(service: &str) -> String {
    let name = service.rsplit('/').next().unwrap_or(service);
    format!("dure show service/{name}")
}
