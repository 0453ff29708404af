//! How a command ends: what is said of an error, and the exit code that goes with it.

use std::{fmt, io, path::Path, process::ExitCode};

use dure_client::ClientError;
use dure_types::{Code, Problem, spec::parse::SpecError};

use crate::{messages, near, output::format, output::style, profile::ProfileError, upload::UploadError};

/// The exit codes, a public promise: docs/reference/vocabulary.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    Forbidden = 4,
    NotFound = 5,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What is said when something went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub head: String,
    /// Further lines, the first of them the most useful.
    pub lines: Vec<String>,
    pub code: Option<String>,
    pub exit: Exit,
}

#[derive(Debug)]
pub enum CliError {
    Said(Box<Said>),
    Spec(Vec<SpecError>),
    /// Standard output could not be written.
    Output(io::Error),
    /// Everything was said already.
    Silent(Exit),
}

impl CliError {
    fn said(head: impl Into<String>, exit: Exit) -> Said {
        Said { head: head.into(), lines: Vec::new(), code: None, exit }
    }

    /// The command line, or something that it names, is wrong.
    pub fn usage(head: impl Into<String>) -> Self {
        Self::said(head, Exit::Usage).into()
    }

    pub fn usage_next(head: impl Into<String>, next: impl fmt::Display) -> Self {
        Self::said(head, Exit::Usage).next(next).into()
    }

    /// A file that the command line names cannot be used.
    pub fn file(head: impl Into<String>) -> Self {
        Self::said(head, Exit::Usage).code(Code::SpecFile).into()
    }

    /// A file that cannot be read, with the file that was perhaps meant.
    pub fn unreadable(path: &Path, error: &io::Error) -> Self {
        let said = Self::said(messages::cannot_read(path.display(), error), Exit::Usage).code(Code::SpecFile);
        match near::instead_of(path, error) {
            Some(next) => said.next(next).into(),
            None => said.into(),
        }
    }

    /// What the model cannot take.
    pub fn input(head: impl Into<String>, next: impl fmt::Display) -> Self {
        Self::said(head, Exit::Usage).code(Code::InputShape).next(next).into()
    }

    pub fn failed(head: impl Into<String>) -> Self {
        Self::said(head, Exit::Failed).into()
    }

    pub fn not_found(head: impl Into<String>, next: impl fmt::Display) -> Self {
        Self::said(head, Exit::NotFound).code(Code::NotFound).next(next).into()
    }

    /// A file that could not be written; where it was standard output that closed, nothing is said.
    pub fn io(head: impl Into<String>, error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Output(error) } else { Self::failed(head) }
    }

    pub fn exit(&self) -> Exit {
        match self {
            Self::Said(said) => said.exit,
            Self::Spec(_) => Exit::Usage,
            // Whoever reads the output has had enough: `dure ps | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(_) => Exit::Failed,
            Self::Silent(exit) => *exit,
        }
    }

    /// What to write to standard error, if anything.
    pub fn render(&self) -> String {
        match self {
            Self::Said(said) => said.to_string(),
            Self::Spec(errors) => errors.iter().map(|error| format!("{error}\n")).collect::<Vec<_>>().join("\n"),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => String::new(),
            Self::Output(error) => {
                Self::said(messages::cannot_write("standard output", error), Exit::Failed).to_string()
            }
            Self::Silent(_) => String::new(),
        }
    }
}

impl Said {
    #[must_use]
    fn code(mut self, code: Code) -> Self {
        self.code = Some(code.as_str().to_owned());
        self
    }

    #[must_use]
    pub fn next(mut self, next: impl fmt::Display) -> Self {
        self.lines.push(format!("{}: {next}", messages::try_next()));
        self
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.as_ref().map(|code| format!("   ({code})")).unwrap_or_default();
        write!(
            f,
            "{0}{1}{0:#}: {2}",
            style::ERROR,
            messages::error(),
            format::clean_lines(&format::without_errno(&self.head))
        )?;
        for line in &self.lines {
            write!(f, "\n  {}", format::clean_lines(line).replace('\n', "\n  "))?;
        }
        writeln!(f, "{code}")
    }
}

impl From<Said> for CliError {
    fn from(said: Said) -> Self {
        Self::Said(Box::new(said))
    }
}

impl From<io::Error> for CliError {
    /// Only what is written to standard output comes without its file's name.
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<Problem> for CliError {
    fn from(problem: Problem) -> Self {
        let mut lines: Vec<String> = problem
            .errors
            .iter()
            .map(|fault| match &fault.at {
                Some(at) => format!("{at}: {}", fault.detail),
                None => fault.detail.clone(),
            })
            .collect();
        lines.extend(problem.next.as_ref().map(|next| format!("{}: {next}", messages::try_next())));
        let exit = exit_of(&problem);
        Said { head: problem.detail, lines, code: Some(problem.code).filter(|code| !code.is_empty()), exit }.into()
    }
}

fn exit_of(problem: &Problem) -> Exit {
    match (problem.code.as_str(), problem.status) {
        ("E0802", _) => Exit::Unreachable,
        ("E0311" | "E0110" | "E0202" | "E0604", _) => Exit::Usage,
        (code, _) if code.starts_with("E010") => Exit::Usage,
        (_, 401 | 403) => Exit::Forbidden,
        (_, 404) => Exit::NotFound,
        _ => Exit::Failed,
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let next = error.next().map(str::to_owned);
        let code = error.code().map(str::to_owned);
        let exit = match error {
            ClientError::Problem(problem) => return Self::from(*problem),
            ClientError::Unreachable { .. } | ClientError::Protocol { .. } => Exit::Unreachable,
            ClientError::Input(_) => Exit::Usage,
            ClientError::File { .. } => Exit::Failed,
        };
        let said = Said { head: error.to_string(), lines: Vec::new(), code, exit };
        match next {
            Some(next) => said.next(next).into(),
            None => said.into(),
        }
    }
}

impl From<ProfileError> for CliError {
    fn from(error: ProfileError) -> Self {
        match &error {
            ProfileError::None => {
                let said = Self::said(error.to_string(), Exit::Unreachable).code(Code::Unreachable);
                said.next(messages::no_profile_next()).into()
            }
            ProfileError::NoToken(_) => {
                let said = Self::said(error.to_string(), Exit::Forbidden).code(Code::Unauthenticated);
                said.next(messages::no_token_next()).into()
            }
            ProfileError::Unknown(..) | ProfileError::Project(_) => Self::usage(error.to_string()),
        }
    }
}

impl From<UploadError> for CliError {
    fn from(error: UploadError) -> Self {
        let said = Self::said(error.to_string(), Exit::Usage).code(Code::SpecFile);
        match error.next() {
            Some(next) => said.next(next).into(),
            None => said.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(error: &CliError) -> String {
        anstream::adapter::strip_str(&error.render()).to_string()
    }

    #[test]
    fn exit_codes_are_those_of_the_reference() {
        for (code, exit) in [
            (Code::SpecField, Exit::Usage),
            (Code::RequestInvalid, Exit::Usage),
            (Code::NeverFits, Exit::Usage),
            (Code::Ambiguous, Exit::Usage),
            (Code::NotFound, Exit::NotFound),
            (Code::Unauthenticated, Exit::Forbidden),
            (Code::Forbidden, Exit::Forbidden),
            (Code::Unreachable, Exit::Unreachable),
            (Code::RunFailed, Exit::Failed),
            (Code::InUse, Exit::Failed),
        ] {
            assert_eq!(CliError::from(Problem::new(code, "x")).exit(), exit, "{}", code.as_str());
        }
        assert_eq!(CliError::Output(io::ErrorKind::BrokenPipe.into()).exit(), Exit::Done);
        assert_eq!(CliError::from(ProfileError::None).exit(), Exit::Unreachable);
    }

    #[test]
    fn an_error_says_what_happened_what_to_do_and_its_code() {
        let error = CliError::from(Problem::new(Code::NeverFits, "no node can ever run this").next("gpu: A100:2"));
        assert_eq!(
            plain(&error),
            format!(
                "{}: no node can ever run this\n  {}: gpu: A100:2   (E0311)\n",
                messages::error(),
                messages::try_next()
            )
        );
        assert_eq!(plain(&CliError::failed("x")), format!("{}: x\n", messages::error()));
        assert_eq!(plain(&CliError::Output(io::ErrorKind::BrokenPipe.into())), "");
    }
}
