//! The rules of the code's layout that no compiler checks. Each fault says where and what the rule is.

mod layers;
mod manifests;
mod text;

use crate::Result;

pub fn run() -> Result<()> {
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().current_dir(crate::workspace::root()).exec()?;
    let mut faults = layers::check(&metadata);
    faults.extend(manifests::check(&metadata)?);
    faults.extend(text::check()?);
    for fault in &faults {
        eprintln!("{fault}");
    }
    match faults.len() {
        0 => Ok(()),
        1 => Err("1 fault".into()),
        many => Err(format!("{many} faults").into()),
    }
}
