//! Requests and answers: address, token, time limits, and problems read back into errors.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dure_types::{Name, Problem};
use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{ClientError, innermost};

const CONNECT: Duration = Duration::from_secs(5);
/// An ordinary answer takes milliseconds; a plan of a thousand documents takes seconds.
pub(crate) const ANSWER: Duration = Duration::from_secs(60);
/// How long a connection may be broken before following or uploading gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// An answer that is read as a whole is never larger than this.
const LARGEST_ANSWER: usize = 64 << 20;
const LARGEST_PROBLEM: usize = 256 << 10;

/// One control plane, as one user, in one project. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    project: Name,
    pub(crate) patience: Duration,
}

impl Client {
    /// `url` is where the control plane listens, such as `http://127.0.0.1:7770`.
    pub fn new(url: &str, token: &str, project: Name) -> Result<Self, ClientError> {
        Self::build(url, token, project, None)
    }

    /// The same for a control plane whose certificate these vouch for too, in PEM, beside those that the machine trusts.
    pub fn trusting(url: &str, token: &str, project: Name, authorities: &[u8]) -> Result<Self, ClientError> {
        let wrong = |why: String| ClientError::Input(format!("the certificates to trust cannot be read: {why}"));
        let certificates =
            reqwest::Certificate::from_pem_bundle(authorities).map_err(|error| wrong(innermost(&error)))?;
        if certificates.is_empty() {
            return Err(wrong("there is none in the file".to_owned()));
        }
        Self::build(url, token, project, Some(certificates))
    }

    fn build(
        url: &str,
        token: &str,
        project: Name,
        authorities: Option<Vec<reqwest::Certificate>>,
    ) -> Result<Self, ClientError> {
        let wrong = |why: &str| {
            ClientError::Input(format!("`{url}` is not a control plane's URL, such as http://127.0.0.1:7770: {why}"))
        };
        let parsed = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(wrong("it begins with http:// or https://"));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() || !parsed.username().is_empty() {
            return Err(wrong("it holds more than scheme, host, port and path"));
        }
        let mut authorization = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| ClientError::Input("the token holds characters that no token has".to_owned()))?;
        authorization.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(reqwest::header::AUTHORIZATION, authorization);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("dure/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(CONNECT)
            .tcp_keepalive(Duration::from_secs(15))
            // A token is never carried on to where a redirect points.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&parsed) {
            // A proxy cannot reach what listens only on this machine.
            builder = builder.no_proxy();
        }
        if let Some(authorities) = authorities {
            builder = builder.tls_certs_merge(authorities);
        } else if parsed.scheme() == "http" {
            // Without this, a machine that has no certificates could not even speak plain HTTP.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| wrong(&innermost(&error)))?;
        Ok(Self { http, url: parsed, project, patience: PATIENCE })
    }

    /// How long a connection may be broken before following and uploading give up.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub fn project(&self) -> &Name {
        &self.project
    }

    pub fn url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// The address of something below the control plane's; every part is encoded, none leads elsewhere.
    fn address(&self, parts: &[&str]) -> Result<Url, ClientError> {
        if let Some(part) = parts.iter().find(|part| matches!(**part, "" | "." | "..")) {
            return Err(ClientError::Input(format!("`{part}` names nothing")));
        }
        let mut url = self.url.clone();
        match url.path_segments_mut() {
            Ok(mut path) => path.pop_if_empty().extend(parts),
            Err(()) => return Err(ClientError::Input(format!("`{}` cannot have paths below it", self.url))),
        };
        Ok(url)
    }

    /// A request to the API, with the time limit of an ordinary answer.
    pub(crate) fn api(&self, method: Method, parts: &[&str]) -> Result<RequestBuilder, ClientError> {
        let parts: Vec<&str> = ["api", "v1"].iter().chain(parts).copied().collect();
        self.at(method, &parts)
    }

    /// The same, of this client's project.
    pub(crate) fn of_project(&self, method: Method, parts: &[&str]) -> Result<RequestBuilder, ClientError> {
        let parts: Vec<&str> = ["projects", self.project.as_str()].iter().chain(parts).copied().collect();
        self.api(method, &parts)
    }

    pub(crate) fn at(&self, method: Method, parts: &[&str]) -> Result<RequestBuilder, ClientError> {
        Ok(self.http.request(method, self.address(parts)?).timeout(ANSWER))
    }

    /// The same request without a limit on its whole time, for what flows for hours.
    pub(crate) fn unlimited(request: RequestBuilder) -> RequestBuilder {
        request.timeout(Duration::from_secs(365 * 86_400))
    }

    /// An answer that is a success; anything else is an error.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request.header(ACCEPT, "application/json")).await?;
        let body = self.whole(response, LARGEST_ANSWER).await?;
        serde_json::from_slice(&body).map_err(|error| self.protocol(error.to_string()))
    }

    pub(crate) async fn nothing(&self, request: RequestBuilder) -> Result<(), ClientError> {
        self.send(request).await.map(drop)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, parts: &[&str]) -> Result<T, ClientError> {
        self.json(self.of_project(Method::GET, parts)?).await
    }

    pub(crate) async fn get_with<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        query: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        self.json(self.of_project(Method::GET, parts)?.query(query)).await
    }

    pub(crate) async fn give<T: DeserializeOwned>(
        &self,
        method: Method,
        parts: &[&str],
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        self.json(self.of_project(method, parts)?.json(body)).await
    }

    async fn whole(&self, mut response: Response, largest: usize) -> Result<Bytes, ClientError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(&error))? {
            if body.len() + chunk.len() > largest {
                return Err(self.protocol(format!("its answer is larger than {} MiB", largest >> 20)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    async fn refused(&self, response: Response) -> ClientError {
        let status = response.status();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_problem = kind.starts_with(Problem::CONTENT_TYPE);
        let body = match self.whole(response, LARGEST_PROBLEM).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        if is_problem && let Ok(problem) = serde_json::from_slice::<Problem>(&body) {
            return ClientError::Problem(Box::new(problem));
        }
        let said = String::from_utf8_lossy(&body[..body.len().min(200)]);
        let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match said.trim() {
            "" => self.protocol(format!("status {status}")),
            said => self.protocol(format!("status {status}: {said}")),
        }
    }

    pub(crate) fn protocol(&self, why: impl Into<String>) -> ClientError {
        ClientError::Protocol { url: self.url().to_owned(), why: why.into() }
    }

    pub(crate) fn broken(&self, error: &reqwest::Error) -> ClientError {
        if error.is_builder() {
            return ClientError::Input(innermost(error));
        }
        let why = if error.is_timeout() { "it does not answer in time".to_owned() } else { innermost(error) };
        self.unreachable(why)
    }

    pub(crate) fn unreachable(&self, why: impl Into<String>) -> ClientError {
        let why = why.into();
        let next = if why.contains("certificate") {
            "name the certificate of the authority that issued it as `ca` of the profile in profiles.toml".to_owned()
        } else if is_loopback(&self.url) {
            "start it: dure up".to_owned()
        } else {
            "check the address (DURE_URL or the profile), and that `dure up` runs there".to_owned()
        };
        ClientError::Unreachable { url: self.url().to_owned(), why, next }
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Result<Client, ClientError> {
        Client::new(url, "secret", Name::new("default").unwrap())
    }

    #[test]
    fn a_part_of_a_path_never_leads_elsewhere() {
        let client = client("http://127.0.0.1:7770/dure/").unwrap();
        let request = client.of_project(Method::GET, &["runs", "a/../b?c#d"]).unwrap().build().unwrap();
        assert_eq!(
            request.url().as_str(),
            "http://127.0.0.1:7770/dure/api/v1/projects/default/runs/a%2F..%2Fb%3Fc%23d"
        );
        for nothing in ["", ".", ".."] {
            assert!(client.of_project(Method::GET, &["runs", nothing]).is_err(), "{nothing}");
        }
    }

    #[test]
    fn what_is_no_control_plane_is_refused_before_anything_is_sent() {
        for bad in ["127.0.0.1:7770", "ftp://a", "unix:///a", "http://a?b", "http://u:p@a", ""] {
            assert!(matches!(client(bad), Err(ClientError::Input(_))), "{bad}");
        }
        assert!(Client::new("http://a", "two\nlines", Name::new("default").unwrap()).is_err());
    }

    #[test]
    fn the_token_is_never_shown() {
        let shown = format!("{:?}", client("http://127.0.0.1:7770").unwrap());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
