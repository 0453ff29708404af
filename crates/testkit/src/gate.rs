//! A named pipe that a program waits at until the test lets it go on.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// In a shell, `read line < PATH` waits until [`Gate::open`]; each call lets one reader through.
pub struct Gate {
    path: PathBuf,
    // Held open for both ways: what is written stays until it is read, and opening waits for nobody.
    pipe: File,
}

impl Gate {
    pub fn new(path: &Path) -> Self {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a named pipe");
        let pipe = OpenOptions::new().read(true).write(true).open(path).expect("the named pipe");
        Self { path: path.to_owned(), pipe }
    }

    /// The command with which a shell waits here.
    pub fn wait(&self) -> String {
        format!("read line < {}", self.path.display())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn open(&self) {
        (&self.pipe).write_all(b"go\n").expect("the named pipe");
    }
}
