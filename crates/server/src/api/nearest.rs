//! What to do when a name is not there: the name that was perhaps meant, and where to look.
//!
//! One place for every operation with a `{name}` in its path, after the handler: a handler only says what is
//! not there. Names are looked up in the caller's project alone, so nothing is learned of others.

use axum::response::{IntoResponse, Response};
use dure_types::{Code, Name, Problem, dataset::DatasetQuery, page::PageQuery, spec::parse::nearest};

use crate::{core::Core, error::ApiError};

/// More names than this are not compared.
const MOST: u32 = 500;

/// The kind of thing that a path names, as the command line calls it.
fn kind(template: &str) -> Option<&'static str> {
    let rest = template.strip_prefix("/projects/{project}/")?;
    let (collection, _) = rest.split_once("/{name}")?;
    Some(match collection {
        "datasets" => "dataset",
        "models" => "model",
        "environments" => "environment",
        "services" => "service",
        _ => return None,
    })
}

/// Adds the next step to an answer that says that a named thing is not there.
pub async fn advise(core: &Core, project: &Name, template: &str, name: Option<&str>, response: Response) -> Response {
    let (Some(kind), Some(name)) = (kind(template), name) else { return response };
    let Some(problem) = response.extensions().get::<Problem>().filter(|problem| problem.is(Code::NotFound)) else {
        return response;
    };
    if problem.next.is_some() {
        return response;
    }
    let next = next_step(core, project, kind, name).await;
    ApiError::from(problem.clone().next(next)).into_response()
}

/// `did you mean digits? dure model list`
pub async fn next_step(core: &Core, project: &Name, kind: &str, name: &str) -> String {
    let names = names(core, project, kind).await;
    if names.iter().any(|there| there.as_str() == name) {
        // The name is there, so its version or alias is not.
        return format!("dure {kind} show {name}");
    }
    match nearest(name, names.iter().map(Name::as_str)) {
        Some(near) => format!("did you mean `{near}`? dure {kind} list"),
        None => format!("dure {kind} list"),
    }
}

async fn names(core: &Core, project: &Name, kind: &str) -> Vec<Name> {
    let store = &core.store;
    let page = PageQuery { cursor: None, limit: Some(MOST) };
    let names = match kind {
        "dataset" => {
            let query = DatasetQuery { limit: Some(MOST), ..DatasetQuery::default() };
            store.list_datasets(project, &query).await.map(|page| page.items.into_iter().map(|it| it.name).collect())
        }
        "model" => {
            store.list_models(project, None, &page).await.map(|page| page.items.into_iter().map(|it| it.name).collect())
        }
        "service" => store.list_services(project).await.map(|rows| rows.into_iter().map(|it| it.name).collect()),
        "environment" => store
            .list_environments(project, &page)
            .await
            .map(|page| page.items.into_iter().filter_map(|it| it.name).collect()),
        _ => return Vec::new(),
    };
    // It is only advice: an answer without it is an answer too.
    names.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_name_something_have_a_kind() {
        assert_eq!(kind("/projects/{project}/models/{name}/versions/{selector}"), Some("model"));
        assert_eq!(kind("/projects/{project}/services/{name}"), Some("service"));
        assert_eq!(kind("/projects/{project}/services"), None);
        assert_eq!(kind("/projects/{project}/runs/{run}/outputs/{name}"), None);
    }
}
