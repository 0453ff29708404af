//! What every command is given: how to print, and which control plane is meant.

use std::io;

use dure_client::Client;
use dure_types::Name;
use serde::Serialize;

use crate::{
    args::Global,
    exit::CliError,
    messages,
    output::{self, Format},
    profile::{self, Target},
};

pub struct Context {
    global: Global,
}

impl Context {
    pub fn new(global: Global) -> Self {
        Self { global }
    }

    pub fn quiet(&self) -> bool {
        self.global.quiet
    }

    pub fn format(&self) -> Format {
        self.global.format
    }

    /// Whether standard output belongs to a program, so that what is for people goes elsewhere.
    pub fn is_for_programs(&self) -> bool {
        self.global.format != Format::Table
    }

    pub fn profile(&self) -> Option<&str> {
        self.global.profile.as_deref()
    }

    pub fn project(&self) -> Option<&Name> {
        self.global.project.as_ref()
    }

    pub fn target(&self) -> Result<Target, CliError> {
        // The file may be unreadable or have no place while the environment says everything.
        let profiles = match profile::path().and_then(|path| profile::read(&path)) {
            Ok(profiles) => profiles,
            Err(_) if self.profile().is_none() && self.is_in_environment() => profile::Profiles::new(),
            Err(error) => return Err(error),
        };
        Ok(profile::choose(&profiles, self.profile(), self.project(), |name| std::env::var(name).ok())?)
    }

    fn is_in_environment(&self) -> bool {
        ["DURE_URL", "DURE_TOKEN"].iter().all(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
    }

    pub fn client(&self) -> Result<Client, CliError> {
        connect(&self.target()?)
    }

    /// One line of what happens: on standard output for people, out of the way of programs.
    pub fn say(&self, line: &str) -> io::Result<()> {
        if self.is_for_programs() {
            anstream::eprintln!("{line}");
            Ok(())
        } else {
            output::line(line)
        }
    }

    /// The API's answer as it is, or what `people` makes of it.
    pub fn show<T: Serialize>(&self, answer: &T, people: impl FnOnce(&T) -> String) -> io::Result<()> {
        match self.global.format {
            Format::Table => output::text(&people(answer)),
            format => output::data(answer, format),
        }
    }
}

pub fn connect(target: &Target) -> Result<Client, CliError> {
    let (url, token, project) = (target.url.as_str(), target.token.as_str(), target.project.clone());
    match &target.ca {
        Some(ca) if url.starts_with("https:") => {
            let pem = std::fs::read(ca).map_err(|error| CliError::usage(messages::cannot_read(ca.display(), error)))?;
            Ok(Client::trusting(url, token, project, &pem)?)
        }
        _ => Ok(Client::new(url, token, project)?),
    }
}
