//! Before any handler: who calls, and may they? Every operation is looked up in the one table of
//! `dure_plan::permission` by its id in the OpenAPI document; what does not stand there is refused.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State},
    http::{Method, header, request::Parts},
    middleware::Next,
    response::Response,
};
use dure_plan::permission::{self, Caller, Verdict};
use dure_types::{Code, Name};
use utoipa::openapi::OpenApi;

use super::nearest;
use crate::{
    core::Core,
    error::{ApiError, ApiResult},
};

#[derive(Clone)]
pub struct Guard {
    core: Arc<Core>,
    /// Method and path template to operation id.
    operations: Arc<HashMap<(Method, String), String>>,
}

impl Guard {
    pub fn new(core: Arc<Core>, document: &OpenApi) -> Self {
        let mut operations = HashMap::new();
        for (path, item) in &document.paths.paths {
            let methods = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            for (method, operation) in methods {
                if let Some(id) = operation.as_ref().and_then(|operation| operation.operation_id.clone()) {
                    operations.insert((method, path.clone()), id);
                }
            }
        }
        Self { core, operations: Arc::new(operations) }
    }
}

pub async fn guard(
    State(guard): State<Guard>,
    params: RawPathParams,
    mut request: Request,
    next: Next,
) -> ApiResult<Response> {
    let caller = authenticate(&guard.core, &request)?;
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let template = matched.strip_prefix("/api/v1").unwrap_or(&matched).to_owned();
    let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
    let operation = guard.operations.get(&(method, template.clone())).cloned().unwrap_or_default();
    let named = params.iter().find(|(name, _)| *name == "name").map(|(_, value)| value.to_owned());
    let project = params.iter().find(|(name, _)| *name == "project").map(|(_, value)| value.to_owned());
    let project = match project {
        None => None,
        Some(text) => {
            let name = Name::new(text.clone()).map_err(|_| no_such_project(&text))?;
            let domain = guard.core.auth.domain_of(&name).ok_or_else(|| no_such_project(&text))?;
            Some((name, domain))
        }
    };
    let verdict = permission::may(&caller, &operation, project.as_ref().map(|(name, domain)| (name, domain)));
    match (verdict, project) {
        (Verdict::Allowed, project) => {
            let project = project.map(|(name, _)| name);
            request.extensions_mut().insert(Allowed { caller, project: project.clone() });
            let response = next.run(request).await;
            Ok(match project {
                Some(project) => nearest::advise(&guard.core, &project, &template, named.as_deref(), response).await,
                None => response,
            })
        }
        (Verdict::Hidden, Some((name, _))) => Err(no_such_project(name.as_str())),
        _ => {
            let detail = format!("{} may not do this ({operation})", caller.user);
            Err(ApiError::new(Code::Forbidden, detail).next("ask an admin of the project or the owner of the domain"))
        }
    }
}

fn authenticate(core: &Core, request: &Request) -> ApiResult<Caller> {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let secret =
        given.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let known = secret.and_then(|(_, secret)| core.auth.caller(secret.trim()));
    known.ok_or_else(|| {
        let detail =
            if given.is_some() { "the token is not valid" } else { "a token is needed: Authorization: Bearer ..." };
        ApiError::new(Code::Unauthenticated, detail)
            .next("set DURE_TOKEN to one that is valid here; `dure token create` makes one where you are signed in")
    })
}

fn no_such_project(name: &str) -> ApiError {
    let name: String = name.chars().take(80).collect();
    ApiError::new(Code::NotFound, format!("there is no project `{name}`")).next("dure project list")
}

#[derive(Clone)]
struct Allowed {
    caller: Caller,
    project: Option<Name>,
}

/// Who calls.
pub struct Who(pub Caller);

/// Who calls, and in which project.
pub struct InProject(pub Caller, pub Name);

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let allowed = parts.extensions.get::<Allowed>();
        allowed.map(|allowed| Self(allowed.caller.clone())).ok_or_else(|| ApiError::internal("an unguarded operation"))
    }
}

impl<S: Sync> FromRequestParts<S> for InProject {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let allowed = parts.extensions.get::<Allowed>().cloned();
        match allowed {
            Some(Allowed { caller, project: Some(project) }) => Ok(Self(caller, project)),
            _ => Err(ApiError::internal("an operation without a project")),
        }
    }
}
