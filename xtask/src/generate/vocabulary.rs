//! Whether the page of words and the OpenAPI document name the same operations at the same places,
//! below the address that both name once.

use std::collections::BTreeMap;

use serde_json::Value;

/// By method and path.
type Operations = BTreeMap<(String, String), String>;

pub fn differences(page: &str, openapi: &Value) -> Vec<String> {
    let (written, served) = (from_page(page), from_openapi(openapi));
    let mut faults = Vec::new();
    for ((method, path), name) in &written {
        match served.get(&(method.clone(), path.clone())) {
            None => faults.push(format!(
                "vocabulary.md has `{name}`, {method} {path}; the OpenAPI document has no such operation"
            )),
            Some(other) if other != name => {
                faults.push(format!(
                    "{method} {path} is `{name}` in vocabulary.md and `{other}` in the OpenAPI document"
                ));
            }
            Some(_) => {}
        }
    }
    for ((method, path), name) in &served {
        if !written.contains_key(&(method.clone(), path.clone())) {
            faults.push(format!("the OpenAPI document has `{name}`, {method} {path}; vocabulary.md does not"));
        }
    }
    faults
}

/// Rows such as ``| `get_run` | GET `P/runs/{run}` | ...``.
fn from_page(page: &str) -> Operations {
    page.lines()
        .filter_map(|row| {
            let mut cells = row.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.strip_suffix('`')?;
            let (method, rest) = cells.next()?.split_once(" `")?;
            if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method) {
                return None;
            }
            let path = rest.split(['`', '?']).next()?;
            let path =
                path.strip_prefix('P').map_or_else(|| path.to_owned(), |path| format!("/projects/{{project}}{path}"));
            Some(((method.to_owned(), path), name.to_owned()))
        })
        .collect()
}

fn from_openapi(openapi: &Value) -> Operations {
    let paths = openapi.get("paths").and_then(Value::as_object);
    paths
        .into_iter()
        .flatten()
        .filter_map(|(path, item)| Some((path, item.as_object()?)))
        .flat_map(|(path, item)| {
            item.iter().filter_map(move |(method, operation)| {
                let name = operation.get("operationId")?.as_str()?;
                Some(((method.to_uppercase(), path.clone()), name.to_owned()))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PAGE: &str = "| operation | method and path |\n|---|---|\n| `get_identity` | GET `/me` | -> Identity | self |\n\
                        | `list_runs` | GET `P/runs?state&kind` | -> Page | read |\n| `dataset` | `name`, `source` |\n";

    #[test]
    fn the_same_operations_make_no_fault() {
        let openapi = json!({"paths": {
            "/me": {"get": {"operationId": "get_identity"}},
            "/projects/{project}/runs": {"get": {"operationId": "list_runs"}},
        }});
        assert_eq!(differences(PAGE, &openapi), Vec::<String>::new());
    }

    #[test]
    fn an_operation_on_one_side_only_or_under_another_name_is_named() {
        let openapi = json!({"paths": {
            "/me": {"get": {"operationId": "whoami"}, "put": {"operationId": "rename_me"}},
        }});
        let faults = differences(PAGE, &openapi);
        assert_eq!(faults.len(), 3, "{faults:?}");
    }
}
