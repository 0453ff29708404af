//! Who is who: identity, projects and their members, users, tokens.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use dure_plan::permission::Caller;
use dure_store::user::NewToken;
use dure_types::{
    Code, Name, Page,
    user::{
        CreateProject, CreateToken, CreateUser, Identity, Membership, Project, SetMembership, Token, TokenCreated, User,
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::extract::{Json, Path};
use super::{InProject, Who};
use crate::{
    auth, change,
    core::Core,
    error::{ApiError, ApiResult},
};

pub fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new()
        .routes(routes!(get_identity))
        .routes(routes!(list_projects, create_project))
        .routes(routes!(list_members))
        .routes(routes!(set_member, remove_member))
        .routes(routes!(list_users, create_user))
        .routes(routes!(list_tokens, create_token))
        .routes(routes!(revoke_token))
}

/// After a change of who may do what: the API and the gateway go by it at once.
async fn refresh(core: &Core) -> ApiResult<()> {
    core.auth.refresh(&core.store).await?;
    core.services.republish();
    Ok(())
}

fn all<T>(items: Vec<T>) -> Json<Page<T>> {
    Json(Page { items, next: None })
}

/// Who am I?
#[utoipa::path(
    get, path = "/me", operation_id = "get_identity", tag = "user",
    responses((status = 200, body = Identity)),
)]
async fn get_identity(State(core): State<Arc<Core>>, Who(caller): Who) -> ApiResult<Json<Identity>> {
    let projects = core.auth.readable(&caller).into_iter().filter_map(|project| {
        let role = caller.role(&project)?;
        Some(Membership { project, user: caller.user.clone(), role })
    });
    Ok(Json(Identity {
        projects: projects.collect(),
        user: caller.user.clone(),
        domain: caller.domain.clone(),
        owner: caller.owner,
    }))
}

/// One's projects
#[utoipa::path(
    get, path = "/projects", operation_id = "list_projects", tag = "user",
    responses((status = 200, body = Page<Project>)),
)]
async fn list_projects(State(core): State<Arc<Core>>, Who(caller): Who) -> ApiResult<Json<Page<Project>>> {
    let projects = match caller.owner {
        true => core.store.projects(&caller.domain).await?,
        false => core.store.projects_of(&caller.domain, &caller.user).await?,
    };
    Ok(all(projects))
}

/// Make a project
#[utoipa::path(
    post, path = "/projects", operation_id = "create_project", tag = "user",
    request_body = CreateProject, responses((status = 201, body = Project)),
)]
async fn create_project(
    State(core): State<Arc<Core>>,
    Who(caller): Who,
    Json(body): Json<CreateProject>,
) -> ApiResult<(StatusCode, Json<Project>)> {
    let scope = change::scope(&core, &caller, &body.name);
    let owner = caller.user.clone();
    let project = core
        .store
        .write(move |tx| {
            Box::pin(async move {
                let project = tx.create_project(&scope).await?;
                tx.set_membership(&scope, &owner, dure_types::user::Role::Owner).await?;
                Ok(project)
            })
        })
        .await?;
    refresh(&core).await?;
    Ok((StatusCode::CREATED, Json(project)))
}

/// Who is in a project
#[utoipa::path(
    get, path = "/projects/{project}/members", operation_id = "list_members", tag = "user",
    params(("project" = String, Path)),
    responses((status = 200, body = Page<Membership>)),
)]
async fn list_members(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
) -> ApiResult<Json<Page<Membership>>> {
    Ok(all(core.store.memberships(&project).await?))
}

/// Bring a user into a project, or change their role
#[utoipa::path(
    put, path = "/projects/{project}/members/{user}", operation_id = "set_member", tag = "user",
    params(("project" = String, Path), ("user" = String, Path)),
    request_body = SetMembership, responses((status = 200, body = Membership)),
)]
async fn set_member(
    State(core): State<Arc<Core>>,
    InProject(caller, project): InProject,
    Path((_, user)): Path<(String, Name)>,
    Json(body): Json<SetMembership>,
) -> ApiResult<Json<Membership>> {
    if caller.role(&project).is_none_or(|role| role < body.role) {
        return Err(ApiError::new(Code::Forbidden, "nobody gives a role above their own"));
    }
    let members = core.store.memberships(&project).await?;
    let theirs = members.iter().find(|member| member.user == user).map(|member| member.role);
    if theirs > caller.role(&project) {
        return Err(ApiError::new(Code::Forbidden, "nobody changes one whose role is above their own"));
    }
    let scope = change::scope(&core, &caller, &project);
    let membership =
        core.store.write(move |tx| Box::pin(async move { tx.set_membership(&scope, &user, body.role).await })).await?;
    refresh(&core).await?;
    Ok(Json(membership))
}

/// Take a user out of a project
#[utoipa::path(
    delete, path = "/projects/{project}/members/{user}", operation_id = "remove_member", tag = "user",
    params(("project" = String, Path), ("user" = String, Path)),
    responses((status = 204)),
)]
async fn remove_member(
    State(core): State<Arc<Core>>,
    InProject(caller, project): InProject,
    Path((_, user)): Path<(String, Name)>,
) -> ApiResult<StatusCode> {
    let members = core.store.memberships(&project).await?;
    let theirs = members.iter().find(|member| member.user == user).map(|member| member.role);
    if theirs > caller.role(&project) {
        return Err(ApiError::new(Code::Forbidden, "nobody takes out one whose role is above their own"));
    }
    let scope = change::scope(&core, &caller, &project);
    core.store.write(move |tx| Box::pin(async move { tx.remove_membership(&scope, &user).await })).await?;
    refresh(&core).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The users of the domain
#[utoipa::path(
    get, path = "/users", operation_id = "list_users", tag = "user",
    responses((status = 200, body = Page<User>)),
)]
async fn list_users(State(core): State<Arc<Core>>, Who(caller): Who) -> ApiResult<Json<Page<User>>> {
    Ok(all(core.store.users(&caller.domain).await?))
}

/// Make a user
#[utoipa::path(
    post, path = "/users", operation_id = "create_user", tag = "user",
    request_body = CreateUser, responses((status = 201, body = User)),
)]
async fn create_user(
    State(core): State<Arc<Core>>,
    Who(caller): Who,
    Json(body): Json<CreateUser>,
) -> ApiResult<(StatusCode, Json<User>)> {
    let now = core.now();
    let user = core
        .store
        .write(move |tx| {
            Box::pin(async move { tx.create_user(&caller.domain, &body.name, false, caller.user.as_str(), now).await })
        })
        .await?;
    Ok((StatusCode::CREATED, Json(user)))
}

/// One's tokens; for an owner, all of the domain
#[utoipa::path(
    get, path = "/tokens", operation_id = "list_tokens", tag = "user",
    responses((status = 200, body = Page<Token>)),
)]
async fn list_tokens(State(core): State<Arc<Core>>, Who(caller): Who) -> ApiResult<Json<Page<Token>>> {
    Ok(all(core.store.tokens(&caller.domain, whose(&caller)).await?))
}

/// An owner sees and revokes everybody's.
fn whose(caller: &Caller) -> Option<&Name> {
    (!caller.owner).then_some(&caller.user)
}

/// Make a token; its secret is shown this once
#[utoipa::path(
    post, path = "/tokens", operation_id = "create_token", tag = "user",
    request_body = CreateToken, responses((status = 201, body = TokenCreated)),
)]
async fn create_token(
    State(core): State<Arc<Core>>,
    Who(caller): Who,
    Json(body): Json<CreateToken>,
) -> ApiResult<(StatusCode, Json<TokenCreated>)> {
    let user = body.user.unwrap_or_else(|| caller.user.clone());
    if user != caller.user && !caller.owner {
        return Err(ApiError::new(Code::Forbidden, "only the owner of the domain makes tokens for others"));
    }
    if body.title.len() > 200 || body.title.contains(char::is_control) {
        return Err(ApiError::new(Code::RequestInvalid, "title: at most 200 characters, no control characters"));
    }
    let secret = auth::new_secret().map_err(ApiError::internal)?;
    let hash = auth::hash(&secret);
    let new = NewToken {
        id: hash[..12].to_owned(),
        hash,
        domain: caller.domain.clone(),
        user,
        title: body.title,
        created_by: caller.user.to_string(),
        at: core.now(),
    };
    let token = core.store.write(move |tx| Box::pin(async move { tx.create_token(&new).await })).await?;
    refresh(&core).await?;
    Ok((StatusCode::CREATED, Json(TokenCreated { token, secret })))
}

/// Make a token worthless
#[utoipa::path(
    delete, path = "/tokens/{id}", operation_id = "revoke_token", tag = "user",
    params(("id" = String, Path)), responses((status = 204)),
)]
async fn revoke_token(
    State(core): State<Arc<Core>>,
    Who(caller): Who,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    core.store
        .write(move |tx| Box::pin(async move { tx.revoke_token(&caller.domain, whose(&caller), &id).await }))
        .await?;
    refresh(&core).await?;
    Ok(StatusCode::NO_CONTENT)
}
