//! What is wrong around Dure: a port, a data directory, a database, no control plane, an index that cannot be reached,
//! a disk that is full. Said as clearly as a mistake in a spec, and nothing is left behind either.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use dure_testkit::{Dure, Output};

use crate::{
    bad_input::{assert_nothing_made, assert_nothing_runs, assert_said, fails},
    support::{builder, dure, shared},
};

/// `dure up` beside the one that runs, which must not start; with a profile of its own.
#[track_caller]
fn refused_up(dure: &Dure, arguments: &[&str]) -> Output {
    let mut command = dure.command(&[&["up"], arguments].concat());
    command.env("DURE_CONFIG_DIR", dure.root().join("other-config"));
    let output = command.output().expect("the binary");
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn a_control_plane_that_cannot_start_says_why_and_leaves_nothing() {
    let dure = dure();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let (own, new) = (dure.data_dir().display().to_string(), dure.root().join("new"));
    let new = new.display().to_string();
    let file = dure.write_file("file", "").display().to_string();
    let here = "127.0.0.1:0";
    let of_dure = dure.url().trim_start_matches("http://").to_owned();
    let cases: &[(&[&str], i32, &str, &[&str])] = &[
        (&["--data-dir", &new, "--listen", &taken], 1, "E0801", &[&taken, "is in use", "--listen 127.0.0.1:PORT"]),
        (&["--data-dir", &new, "--listen", &of_dure], 1, "E0801", &["is in use"]),
        (
            &["--data-dir", &own, "--listen", here],
            1,
            "E0801",
            &["another `dure up` is running", "dure ps", "dure down", "--data-dir"],
        ),
        (
            &["--data-dir", &new, "--listen", "0.0.0.0:0"],
            2,
            "",
            &["reached from other machines", "--tls-cert", "--insecure"],
        ),
        (&["--data-dir", &file, "--listen", here], 1, "E0801", &[&file, "--data-dir"]),
        (&["--data-dir", "/proc/nothing", "--listen", here], 1, "E0801", &["/proc/nothing", "--data-dir"]),
        (
            &["--data-dir", &new, "--listen", here, "--tls-cert", &file, "--tls-key", &file],
            1,
            "E0801",
            &["no certificate", "PEM"],
        ),
        (
            &["--data-dir", &new, "--listen", here, "--database-url", "mysql://x"],
            1,
            "E0801",
            &["sqlite: or postgres://"],
        ),
        (
            &["--data-dir", &new, "--listen", here, "--database-url", "postgres://nobody@127.0.0.1:1/x"],
            1,
            "E0801",
            &["cannot be used", "--database-url"],
        ),
        (&["--data-dir", &new, "--listen", here, "--rate", "-3"], 2, "", &["-3 is no rate"]),
    ];
    for (arguments, exit, code, words) in cases {
        let refused = refused_up(&dure, arguments);
        assert_eq!(refused.code, *exit, "{arguments:?}: {refused}");
        assert_said(&refused, code, words);
        assert!(!Path::new(&new).exists(), "{arguments:?} left its data directory");
        assert!(!dure.root().join("other-config/profiles.toml").exists(), "{arguments:?} wrote a profile");
    }
    assert_nothing_made(&dure);
}

#[test]
fn without_a_control_plane_the_next_step_is_to_start_one() {
    let dure = dure();
    let ask = |variables: &[(&str, &str)]| {
        let mut command = dure.command(&["ps"]);
        command.env("DURE_CONFIG_DIR", dure.root().join("nothing")).envs(variables.iter().copied());
        let output = command.output().expect("the binary");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Output { code: output.status.code().unwrap_or(-1), stdout: String::new(), stderr }
    };
    let url = dure.url();
    let cases = [
        (&[][..], 3, "E0802", &["no control plane is known here", "dure up"][..]),
        (&[("DURE_URL", "http://127.0.0.1:1"), ("DURE_TOKEN", "x")], 3, "E0802", &["cannot be reached", "dure up"]),
        (&[("DURE_URL", url), ("DURE_TOKEN", "dure_wrong")], 4, "E0501", &["the token is not valid", "DURE_TOKEN"]),
        (&[("DURE_URL", url)], 4, "E0501", &["no token", "DURE_TOKEN"]),
        (&[("DURE_URL", "nonsense"), ("DURE_TOKEN", "x")], 2, "", &["not a control plane's URL", "http://"]),
    ];
    for (variables, exit, code, words) in cases {
        let refused = ask(variables);
        assert_eq!(refused.code, exit, "{variables:?}: {refused}");
        assert_said(&refused, code, words);
    }
}

#[test]
fn a_package_index_that_cannot_be_reached_fails_the_build_with_its_address() {
    let index = "http://127.0.0.1:1/simple";
    let dure = builder().variable("PIP_INDEX_URL", index).start();
    let failed = fails(&dure, "offline", "environment: {packages: [six]}\ncommand: python -c 1");
    assert_said(&failed, "E0407", &[index, "cannot be reached", "PIP_INDEX_URL"]);
    let environments = dure.json(&["environment", "list"])["items"].clone();
    assert_eq!(environments[0]["state"], "failed", "{environments}");
    let made = fs::read_dir(dure.data_dir().join("environments")).expect("a folder");
    let folders = made.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir())).count();
    assert_eq!(folders, 0, "no half-made environment");
    assert_nothing_runs(&dure);
}

#[test]
fn packages_that_cannot_be_had_fail_with_the_resolver_s_reason() {
    let Some(dure) = shared() else { return };
    for (name, environment, words) in [
        ("no-package", "{packages: [\"dure-no-such-package-zz==9\"]}", &["dure-no-such-package-zz"][..]),
        ("no-version", "{packages: [\"six==999\"]}", &["six==999"]),
        ("no-python", "{packages: [six], python: \"3.99\"}", &["3.99", "found"]),
    ] {
        let failed = fails(&dure, name, &format!("environment: {environment}\ncommand: python -c 1"));
        assert_said(&failed, "E0407", words);
    }
}

/// A small file system of its own, where the user may mount one.
struct Tiny<'a>(&'a Path);

impl<'a> Tiny<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(at)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then(|| Self(at))
    }
}

impl Drop for Tiny<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_disk_that_is_full_is_named_and_nothing_half_made_stays() {
    let dure = dure();
    let partial = dure.data_dir().join("blobs/partial");
    let Some(tiny) = Tiny::mount(&partial) else {
        eprintln!("skipped: a small file system can only be mounted as root");
        return;
    };
    let content: Vec<u8> =
        (0..1_u32 << 18).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    dure.write_file("data/big", &content);
    let refused = dure.cli(&["dataset", "create", "big", "data"]).expect(1);
    assert_said(&refused, "E0903", &["the disk of the data directory is full", "free some space"]);
    let left: u64 = walk(&partial);
    assert_eq!(left, 0, "bytes of an upload that did not fit");
    drop(tiny);
    assert_nothing_made(&dure);
    dure.cli(&["dataset", "create", "big", "data"]).expect(0);
}

fn walk(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(
            |entry| {
                if entry.path().is_dir() {
                    walk(&entry.path())
                } else {
                    entry.metadata().map_or(0, |facts| facts.len())
                }
            },
        )
        .sum()
}
