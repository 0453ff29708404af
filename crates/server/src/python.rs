//! The Python package `dure`, carried in the binary and laid where units find it on PYTHONPATH.

use std::{fs, io, path::Path};

const PACKAGE: &str = include_str!("../../../python/dure/__init__.py");

/// Writes the package below `folder`; the same content again changes nothing for those who read it.
pub fn lay_out(folder: &Path) -> io::Result<()> {
    let package = folder.join("dure");
    let file = package.join("__init__.py");
    if fs::read_to_string(&file).is_ok_and(|there| there == PACKAGE) {
        return Ok(());
    }
    fs::create_dir_all(&package)?;
    let fresh = package.join(".__init__.py.new");
    fs::write(&fresh, PACKAGE)?;
    fs::rename(fresh, file)
}
