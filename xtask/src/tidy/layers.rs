//! The direction in which crates may use one another.

use cargo_metadata::{DependencyKind, Metadata};

const MIDDLE: [&str; 5] = ["dure-store", "dure-engine", "dure-image", "dure-gateway", "dure-modelserver"];
const TESTKIT: &str = "dure-testkit";

/// `types <- plan <- {store, engine, image, gateway, modelserver} <- server <- cli`, `types <- client <- cli`.
fn may_use(user: &str, used: &str) -> bool {
    match user {
        "dure-types" => false,
        "dure-plan" | "dure-client" => used == "dure-types",
        "dure-server" => MIDDLE.contains(&used) || ["dure-types", "dure-plan"].contains(&used),
        "dure" | TESTKIT | "xtask" => used != TESTKIT,
        user if MIDDLE.contains(&user) => ["dure-types", "dure-plan"].contains(&used),
        _ => false,
    }
}

pub fn check(metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    for package in metadata.workspace_packages() {
        for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_some()) {
            let for_tests = dependency.kind == DependencyKind::Development && dependency.name == TESTKIT;
            if !for_tests && !may_use(&package.name, &dependency.name) {
                faults.push(format!(
                    "{} must not use {}: the direction is types <- plan <- store, engine, image, gateway, modelserver \
                     <- server <- cli, types <- client <- cli, and testkit only for tests",
                    package.name, dependency.name
                ));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_five_in_the_middle_never_import_one_another() {
        for user in MIDDLE {
            assert!(may_use(user, "dure-plan"));
            assert!(may_use("dure-server", user));
            for used in MIDDLE {
                assert!(!may_use(user, used), "{user} uses {used}");
            }
        }
    }

    #[test]
    fn nothing_below_knows_what_is_above() {
        assert!(!may_use("dure-types", "dure-plan"));
        assert!(!may_use("dure-plan", "dure-store"));
        assert!(!may_use("dure-client", "dure-server"));
        assert!(!may_use("dure-server", "dure"));
        assert!(!may_use("dure", TESTKIT));
    }
}
