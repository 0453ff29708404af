//! Who may do what: every operation of the OpenAPI document is called by everybody who may not call it. The calls are
//! made from the document itself, so that a new operation is tried without a line here.

use std::collections::BTreeSet;

use dure_plan::permission::{OPERATIONS, Right};
use dure_testkit::{Dure, Response};
use dure_types::user::Role;
use serde_json::{Value, json};

use crate::support::dure;

/// One operation of the document, and what the table says that it needs.
struct Operation {
    id: String,
    method: String,
    /// Below /api/v1, with its parameters still open.
    path: String,
    right: Right,
}

impl Operation {
    /// A path that could be right but for the name of the project.
    fn in_project(&self, project: &str) -> String {
        let mut path = format!("/api/v1{}", self.path.replace("{project}", project));
        for (parameter, value) in [
            ("run", "0123456789abcdef0123"),
            ("digest", "ab".repeat(32).as_str()),
            ("selector", "1"),
            ("user", "nobody"),
            ("alias", "production"),
        ] {
            path = path.replace(&format!("{{{parameter}}}"), value);
        }
        // Every other parameter is a name.
        while let (Some(start), Some(end)) = (path.find('{'), path.find('}')) {
            path.replace_range(start..=end, "nothing");
        }
        if self.id == "upload_blob" { format!("{path}?offset=0&size=1") } else { path }
    }

    fn call(&self, dure: &Dure, project: &str, token: Option<&str>) -> Response {
        let body = json!({});
        let body = matches!(self.method.as_str(), "POST" | "PUT" | "PATCH").then_some(&body);
        dure.http(&self.method, &self.in_project(project), token, body)
    }
}

fn operations(dure: &Dure) -> Vec<Operation> {
    let document = dure.http("GET", "/api/v1/openapi.json", None, None);
    assert_eq!(document.status, 200, "the document needs no token");
    let document = document.json();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let methods = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];
        for (method, operation) in methods.iter().filter_map(|method| Some((method, item.get(method)?))) {
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no id"));
            let right = OPERATIONS.iter().find(|(name, _)| *name == id);
            let (_, right) = right.unwrap_or_else(|| panic!("{id} does not stand in the table of permissions"));
            operations.push(Operation {
                id: id.to_owned(),
                method: method.to_uppercase(),
                path: path.clone(),
                right: *right,
            });
        }
    }
    operations
}

/// A user's token.
fn token(dure: &Dure, user: &str) -> String {
    created(&dure.json(&["token", "create", "--user", user]))
}

fn created(token: &Value) -> String {
    token["secret"].as_str().unwrap_or_else(|| panic!("no secret in {token}")).to_owned()
}

/// A user with a role in the project `default`, or in none; their token.
fn user(dure: &Dure, name: &str, role: Option<&str>) -> String {
    dure.cli(&["user", "create", name]).expect(0);
    if let Some(role) = role {
        dure.cli(&["project", "add", name, "--role", role]).expect(0);
    }
    token(dure, name)
}

#[test]
fn every_operation_of_the_document_stands_in_the_table_and_the_other_way_round() {
    let dure = dure();
    let found = operations(&dure);
    let documented: BTreeSet<&str> = found.iter().map(|operation| operation.id.as_str()).collect();
    assert_eq!(documented.len(), found.len(), "an id stands twice");
    let known: BTreeSet<&str> = OPERATIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(documented, known);
    for operation in &found {
        let names_project = operation.path.starts_with("/projects/{project}");
        assert_eq!(matches!(operation.right, Right::Project(_)), names_project, "{}", operation.id);
    }
}

#[test]
fn nobody_without_a_valid_token_gets_anything_but_that_word() {
    let dure = dure();
    for operation in operations(&dure) {
        for token in [None, Some("dure_0123456789"), Some("")] {
            for project in ["default", "nothing"] {
                let refused = operation.call(&dure, project, token);
                assert_eq!(refused.status, 401, "{} with {token:?}: {refused:?}", operation.id);
                assert_eq!(refused.json()["code"], "E0501", "{}", operation.id);
                assert!(!refused.text.contains(project), "{}: {refused:?}", operation.id);
            }
        }
        if operation.method == "GET" {
            let head = dure.http("HEAD", &operation.in_project("default"), None, None);
            assert_eq!(head.status, 401, "HEAD of {}", operation.id);
        }
    }
    // The command line says so too, with its own exit code and the next step.
    let said = dure.cli_as("dure_wrong", "default", &["ps"]).expect(4).stderr;
    assert!(said.contains("(E0501)") && said.contains("DURE_TOKEN"), "{said}");
}

#[test]
fn a_stranger_sees_no_project_and_owns_nothing() {
    let dure = dure();
    let stranger = user(&dure, "lee", None);
    for operation in operations(&dure) {
        let real = operation.call(&dure, "default", Some(&stranger));
        match operation.right {
            // Not a word more than of a project that does not exist.
            Right::Project(_) => {
                let absent = operation.call(&dure, "nothing-such", Some(&stranger));
                assert_eq!(real.status, 404, "{}: {real:?}", operation.id);
                assert_eq!(absent.text.replace("nothing-such", "default"), real.text, "{}", operation.id);
                assert_eq!(absent.status, real.status, "{}", operation.id);
            }
            Right::Domain => {
                assert_eq!(real.status, 403, "{}: {real:?}", operation.id);
                assert_eq!(real.json()["code"], "E0502", "{}", operation.id);
            }
            Right::Own => assert!(![401, 403].contains(&real.status), "{}: {real:?}", operation.id),
        }
    }
    assert_eq!(dure.http("GET", "/healthz", None, None).status, 200, "nobody shut it down");
}

#[test]
fn a_role_reaches_as_far_as_the_table_says_and_no_further() {
    let dure = dure();
    let roles = [(Role::Viewer, "viewer"), (Role::Member, "member"), (Role::Admin, "admin")];
    let callers = roles.map(|(role, name)| (role, user(&dure, name, Some(name))));
    for operation in operations(&dure) {
        for (role, token) in &callers {
            let answer = operation.call(&dure, "default", Some(token));
            let allowed = match operation.right {
                Right::Own => true,
                Right::Domain => false,
                Right::Project(least) => *role >= least,
            };
            assert_eq!(answer.status != 403, allowed, "{} as {role:?}: {answer:?}", operation.id);
            assert_ne!(answer.status, 401, "{} as {role:?}: {answer:?}", operation.id);
            assert!(answer.status < 500, "{} as {role:?}: {answer:?}", operation.id);
            if answer.status >= 400 {
                assert!(answer.json()["code"].is_string(), "{}: {answer:?}", operation.id);
            }
        }
    }
    assert_eq!(dure.http("GET", "/healthz", None, None).status, 200);
}

#[test]
fn nobody_lifts_themselves_or_lowers_those_above_them() {
    let dure = dure();
    let member = user(&dure, "member", Some("member"));
    let admin = user(&dure, "admin", Some("admin"));
    let set = |token: &str, who: &str, role: &str| {
        let path = format!("/api/v1/projects/default/members/{who}");
        dure.http("PUT", &path, Some(token), Some(&json!({"role": role}))).status
    };
    assert_eq!(set(&member, "member", "admin"), 403);
    assert_eq!(set(&admin, "admin", "owner"), 403);
    assert_eq!(set(&admin, "member", "owner"), 403);
    assert_eq!(set(&admin, "owner", "viewer"), 403, "an owner is above an admin");
    let path = "/api/v1/projects/default/members/owner";
    assert_eq!(dure.http("DELETE", path, Some(&admin), None).status, 403);
    assert_eq!(set(&admin, "member", "viewer"), 200);

    // Tokens are one's own.
    let for_owner = json!({"user": "owner", "title": "mine"});
    assert_eq!(dure.http("POST", "/api/v1/tokens", Some(&admin), Some(&for_owner)).status, 403);
    let ids = |token: &str| {
        let listed = dure.http("GET", "/api/v1/tokens", Some(token), None).json();
        let items = listed["items"].as_array().expect("items").clone();
        items.iter().map(|token| token["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let (own, all) = (ids(&admin), ids(dure.token()));
    assert_eq!(own.len(), 1);
    assert_eq!(all.len(), 3, "the owner sees everybody's");
    for foreign in all.iter().filter(|id| !own.contains(id)) {
        let refused = dure.http("DELETE", &format!("/api/v1/tokens/{foreign}"), Some(&admin), None);
        assert_eq!(refused.status, 404, "{refused:?}");
    }
    assert_eq!(ids(dure.token()).len(), 3, "all are still there");
}

#[test]
fn a_token_that_is_revoked_opens_nothing_from_that_moment_on() {
    let dure = dure();
    dure.cli(&["user", "create", "lee"]).expect(0);
    dure.cli(&["project", "add", "lee", "--role", "admin"]).expect(0);
    let (first, second) = (dure.json(&["token", "create", "--user", "lee"]), token(&dure, "lee"));
    let (id, first) = (first["id"].as_str().or(first["token"]["id"].as_str()).expect("an id"), created(&first));
    let at_api = |token: &str| dure.http("GET", "/api/v1/projects/default/runs", Some(token), None).status;
    let at_gateway = |token: &str| dure.http("GET", "/s/default/nothing/", Some(token), None).status;
    assert_eq!((at_api(&first), at_gateway(&first)), (200, 404));

    dure.cli(&["token", "revoke", id]).expect(0);
    assert_eq!((at_api(&first), at_gateway(&first)), (401, 401));
    assert_eq!((at_api(&second), at_gateway(&second)), (200, 404), "the other one is as good as before");

    // Put out of the project, one is a stranger there at once.
    dure.cli(&["project", "remove", "lee"]).expect(0);
    assert_eq!(at_api(&second), 404);
    let said = dure.cli(&["token", "revoke", "nothing"]).expect(5).stderr;
    assert!(said.contains("(E0201)"), "{said}");
}
