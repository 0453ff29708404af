//! Who may do what: one table, which the API obeys and which a test holds against the OpenAPI document.

use dure_types::{Name, user::Role};

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Any valid token; the answer holds only what is the caller's own.
    Own,
    /// A role in the project of its path, at least this one.
    Project(Role),
    /// The owner of the domain.
    Domain,
}

/// Every operation of the API.
pub const OPERATIONS: &[(&str, Right)] = &[
    ("get_identity", Right::Own),
    ("list_projects", Right::Own),
    ("create_project", Right::Domain),
    ("list_members", Right::Project(Role::Viewer)),
    ("set_member", Right::Project(Role::Admin)),
    ("remove_member", Right::Project(Role::Admin)),
    ("list_users", Right::Domain),
    ("create_user", Right::Domain),
    ("list_tokens", Right::Own),
    ("create_token", Right::Own),
    ("revoke_token", Right::Own),
    ("list_nodes", Right::Own),
    ("get_cost", Right::Own),
    ("find_missing_blobs", Right::Project(Role::Member)),
    ("upload_blob", Right::Project(Role::Member)),
    ("create_manifest", Right::Project(Role::Member)),
    ("plan_changes", Right::Project(Role::Member)),
    ("apply_changes", Right::Project(Role::Member)),
    ("list_runs", Right::Project(Role::Viewer)),
    ("create_run", Right::Project(Role::Member)),
    ("get_run", Right::Project(Role::Viewer)),
    ("stop_run", Right::Project(Role::Member)),
    ("explain_run", Right::Project(Role::Viewer)),
    ("get_logs", Right::Project(Role::Viewer)),
    ("list_metrics", Right::Project(Role::Viewer)),
    ("download_output", Right::Project(Role::Viewer)),
    ("list_datasets", Right::Project(Role::Viewer)),
    ("get_dataset", Right::Project(Role::Viewer)),
    ("rename_dataset", Right::Project(Role::Member)),
    ("delete_dataset", Right::Project(Role::Member)),
    ("list_dataset_versions", Right::Project(Role::Viewer)),
    ("create_dataset_version", Right::Project(Role::Member)),
    ("get_dataset_version", Right::Project(Role::Viewer)),
    ("download_dataset", Right::Project(Role::Viewer)),
    ("list_models", Right::Project(Role::Viewer)),
    ("get_model", Right::Project(Role::Viewer)),
    ("list_model_versions", Right::Project(Role::Viewer)),
    ("register_model", Right::Project(Role::Member)),
    ("get_model_version", Right::Project(Role::Viewer)),
    ("download_model", Right::Project(Role::Viewer)),
    ("set_alias", Right::Project(Role::Member)),
    ("list_environments", Right::Project(Role::Viewer)),
    ("get_environment", Right::Project(Role::Viewer)),
    ("list_services", Right::Project(Role::Viewer)),
    ("get_service", Right::Project(Role::Viewer)),
    ("delete_service", Right::Project(Role::Member)),
    ("list_events", Right::Project(Role::Viewer)),
    ("shut_down", Right::Domain),
];

/// Who asks, as far as rights go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub user: Name,
    pub domain: Name,
    pub owner: bool,
    pub projects: Vec<(Name, Role)>,
}

impl Caller {
    /// What the caller is in a project of their domain; an owner is everything in every project.
    pub fn role(&self, project: &Name) -> Option<Role> {
        let member = self.projects.iter().find(|(name, _)| name == project).map(|(_, role)| *role);
        if self.owner { Some(Role::Owner) } else { member }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// To be answered as if the project did not exist, so that a stranger learns nothing.
    Hidden,
    Refused,
}

/// May the caller do this operation, in this project (of this domain) where it has one?
pub fn may(caller: &Caller, operation: &str, project: Option<(&Name, &Name)>) -> Verdict {
    let Some((_, right)) = OPERATIONS.iter().find(|(name, _)| *name == operation) else {
        return Verdict::Refused;
    };
    match (right, project) {
        (Right::Own, _) => Verdict::Allowed,
        (Right::Domain, _) if caller.owner => Verdict::Allowed,
        (Right::Domain, _) | (Right::Project(_), None) => Verdict::Refused,
        (Right::Project(least), Some((project, domain))) => match caller.role(project) {
            _ if *domain != caller.domain => Verdict::Hidden,
            None => Verdict::Hidden,
            Some(role) if role >= *least => Verdict::Allowed,
            Some(_) => Verdict::Refused,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn caller(owner: bool, projects: &[(&str, Role)]) -> Caller {
        let projects = projects.iter().map(|(project, role)| (name(project), *role)).collect();
        Caller { user: name("lee"), domain: name("default"), owner, projects }
    }

    #[test]
    fn an_operation_that_is_not_in_the_table_is_refused_to_everyone() {
        let project = (&name("p"), &name("default"));
        assert_eq!(may(&caller(true, &[]), "new_operation", Some(project)), Verdict::Refused);
    }

    #[test]
    fn roles_reach_as_far_as_the_table_says() {
        let (vision, default, other) = (name("vision"), name("default"), name("other"));
        let cases = [
            (caller(false, &[("vision", Role::Viewer)]), "list_runs", Verdict::Allowed),
            (caller(false, &[("vision", Role::Viewer)]), "create_run", Verdict::Refused),
            (caller(false, &[("vision", Role::Member)]), "create_run", Verdict::Allowed),
            (caller(false, &[("vision", Role::Member)]), "set_member", Verdict::Refused),
            (caller(false, &[("speech", Role::Admin)]), "list_runs", Verdict::Hidden),
            (caller(false, &[("vision", Role::Admin)]), "shut_down", Verdict::Refused),
            (caller(true, &[]), "create_run", Verdict::Allowed),
        ];
        for (caller, operation, verdict) in cases {
            assert_eq!(may(&caller, operation, Some((&vision, &default))), verdict, "{operation}");
        }
        assert_eq!(may(&caller(true, &[]), "list_runs", Some((&vision, &other))), Verdict::Hidden);
    }
}
