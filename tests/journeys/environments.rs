//! Environments: built once for all that want the same packages, and nothing of the machine's in them.

use crate::support::shared;

#[test]
fn the_same_packages_are_built_once_whoever_wants_them() {
    let Some(dure) = shared() else { return };
    let job = |name: &str, packages: &str| {
        format!(
            "kind: job\nname: {name}\nenvironment: {{packages: {packages}}}\nresources: {{cpu: 100m}}\n\
             command: python -c 'import idna, sys; print(idna.encode(\"x\"), sys.prefix)'\n"
        )
    };
    dure.write_file("first.yaml", job("imports-first", "[idna, six]"));
    let said = dure.cli(&["apply", "-f", "first.yaml", "--yes"]).expect(0).stdout;
    assert!(said.contains("ready") && said.contains("│ b'x'"), "{said}");
    // Another job, and the same packages in another order.
    dure.write_file("second.yaml", job("imports-second", "[six, idna]"));
    dure.cli(&["apply", "-f", "second.yaml", "--yes"]).expect(0);

    let digest = |name: &str| dure.json(&["show", &format!("job/{name}")])["environment"].clone();
    assert_eq!(digest("imports-first"), digest("imports-second"));
    let environment = dure.json(&["environment", "show", digest("imports-first").as_str().expect("a digest")]);
    assert_eq!(environment["state"], "ready");
    let builds = dure.json(&["ps", "--all", "--kind", "build"])["items"].clone();
    let builds = builds.as_array().expect("builds");
    let made = builds.iter().find(|run| run["id"] == environment["build"]).expect("its build");
    assert_eq!(builds.iter().filter(|run| run["name"] == made["name"]).count(), 1, "{builds:?}");
    let lock = environment["lock"].as_str().expect("a lock");
    assert!(lock.contains("idna==") && lock.contains("--hash=sha256:"), "{lock}");
}
