//! A unit's environment variables, made from nothing.
//!
//! Pure. Nothing of whoever started Dure reaches a unit: no proxy settings, no tokens, no thread
//! counts of somebody else's shell.

use std::collections::BTreeMap;
use std::path::Path;

use super::places;
use crate::unit::{InvalidSpec, MountPoint, UnitSpec};

const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Numerical libraries take every core that they see unless told otherwise; with two such units
/// on a machine both crawl.
const THREAD_COUNTS: [&str; 10] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
];

/// Set here and nowhere else: what they say must be true.
const OURS: [&str; 7] =
    ["DURE_UNIT", "DURE_DATA", "DURE_MODELS", "DURE_OUTPUT", "DURE_PARAMS", "DURE_LISTEN", "CUDA_VISIBLE_DEVICES"];

/// `folder` is the unit's own folder, `socket` where it is to listen if it does.
pub fn environment(
    spec: &UnitSpec,
    folder: &Path,
    socket: Option<&Path>,
) -> Result<BTreeMap<String, String>, InvalidSpec> {
    if let Some(name) = spec.env.keys().find(|name| OURS.contains(&name.as_str())) {
        return Err(InvalidSpec(format!("{name} is set by Dure and cannot be set in env")));
    }
    let place = |name: &str| text(&folder.join(name));
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| env.insert(name.to_string(), value);

    set("HOME", place(places::HOME)?);
    set("TMPDIR", place(places::TMP)?);
    set("LANG", "C.UTF-8".into());
    set("PYTHONUNBUFFERED", "1".into());
    let threads = match spec.cpu_milli {
        0 => None,
        milli => Some(milli.div_ceil(1000).to_string()),
    };
    for name in THREAD_COUNTS {
        if let Some(threads) = &threads {
            set(name, threads.clone());
        }
    }
    for (name, value) in &spec.env {
        set(name, value.clone());
    }

    set("PATH", search_path(spec)?);
    set("DURE_UNIT", spec.id.to_string());
    set("DURE_OUTPUT", place(places::OUTPUT)?);
    if spec.mounts.iter().any(|mount| matches!(mount.at, MountPoint::Data(_))) {
        set("DURE_DATA", place(places::DATA)?);
    }
    if spec.mounts.iter().any(|mount| matches!(mount.at, MountPoint::Model(_))) {
        set("DURE_MODELS", place(places::MODELS)?);
    }
    if !spec.parameters.is_null() {
        set("DURE_PARAMS", place(places::PARAMETERS)?);
    }
    if let Some(socket) = socket {
        set("DURE_LISTEN", format!("unix:{}", text(socket)?));
    }
    // Set also when it is empty: that hides every GPU.
    set("CUDA_VISIBLE_DEVICES", spec.devices.join(","));
    Ok(env)
}

fn search_path(spec: &UnitSpec) -> Result<String, InvalidSpec> {
    let mut parts = Vec::new();
    for folder in &spec.path_prefix {
        let folder = text(folder)?;
        if folder.contains(':') {
            return Err(InvalidSpec(format!("{folder:?} has a colon, so it cannot be in PATH")));
        }
        parts.push(folder);
    }
    parts.push(spec.env.get("PATH").cloned().unwrap_or_else(|| SYSTEM_PATH.into()));
    Ok(parts.join(":"))
}

fn text(path: &Path) -> Result<String, InvalidSpec> {
    path.to_str().map(String::from).ok_or_else(|| InvalidSpec(format!("{} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::tests::spec;
    use crate::unit::Mount;

    #[test]
    fn it_says_where_things_are_and_how_many_threads_to_use() {
        let mut spec = spec("a-1-0", &["true"]);
        spec.cpu_milli = 1500;
        spec.path_prefix = vec!["/venv/bin".into()];
        spec.devices = vec!["GPU-1".into(), "GPU-2".into()];
        spec.env.insert("OMP_NUM_THREADS".into(), "7".into());
        spec.env.insert("DURE_RUN".into(), "a".into());
        spec.mounts = vec![Mount { at: MountPoint::Data("d".into()), files: vec![] }];
        spec.parameters = serde_json::json!({});
        let env = environment(&spec, Path::new("/u"), Some(Path::new("/r/s.sock"))).unwrap();
        assert!(env["PATH"].starts_with("/venv/bin:/usr/local/sbin:"));
        assert_eq!(env["MKL_NUM_THREADS"], "2");
        assert_eq!(env["OMP_NUM_THREADS"], "7", "the user's own word is last");
        assert_eq!(env["CUDA_VISIBLE_DEVICES"], "GPU-1,GPU-2");
        assert_eq!(env["DURE_DATA"], "/u/data");
        assert_eq!(env["DURE_PARAMS"], "/u/params.json");
        assert_eq!(env["DURE_LISTEN"], "unix:/r/s.sock");
        assert_eq!(env["DURE_RUN"], "a");
        assert!(!env.contains_key("DURE_MODELS"));
    }

    #[test]
    fn what_dure_says_cannot_be_overridden() {
        for name in OURS {
            let mut spec = spec("a-1-0", &["true"]);
            spec.env.insert(name.into(), "x".into());
            assert!(environment(&spec, Path::new("/u"), None).is_err(), "{name}");
        }
    }
}
