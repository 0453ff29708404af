//! A control plane of a test's own, and the command line that speaks to it.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use dure_client::Client;
use dure_types::{Name, run::RunQuery};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    block_on,
    command::{self, Background, Output},
    leftover::{self, Process},
    packages,
    postgres::Database,
};

/// How a control plane is started.
pub struct Builder {
    program: String,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    packages: bool,
    postgres: bool,
}

impl Builder {
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// One more argument to `dure up`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// A variable in the environment of `dure up`, and of nothing else.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Builds find what earlier ones downloaded; see [`crate::with_packages`].
    #[must_use]
    pub(crate) fn packages(mut self) -> Self {
        self.packages = true;
        self
    }

    /// On a database of its own; ask [`crate::postgres_is_given`] first.
    #[must_use]
    pub fn postgres(mut self) -> Self {
        self.postgres = true;
        self
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Dure {
        let root = tempfile::Builder::new().prefix("dure-").tempdir_in("/tmp").expect("a folder");
        for folder in ["home", "work"] {
            fs::create_dir(root.path().join(folder)).expect("a folder");
        }
        let data_dir = root.path().join("data");
        if self.packages {
            fs::DirBuilder::new().mode(0o700).create(&data_dir).expect("a folder");
            packages::share_cache(&self.program, &data_dir);
        }
        let database = self.postgres.then(Database::create);
        let mut arguments = self.arguments;
        if let Some(database) = &database {
            arguments.extend(["--database-url".to_owned(), database.url()]);
        }
        let mut dure = Dure {
            program: PathBuf::from(self.program),
            arguments,
            variables: self.variables,
            data_dir,
            listen: "127.0.0.1:0".to_owned(),
            url: String::new(),
            token: String::new(),
            up: None,
            is_down: false,
            root,
            _database: database,
        };
        dure.restart();
        dure
    }
}

/// A running `dure up` with everything of its own. When it is dropped, everything is ended by `dure down`, and a
/// process that is left fails the test.
pub struct Dure {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    data_dir: PathBuf,
    listen: String,
    url: String,
    token: String,
    up: Option<Background>,
    is_down: bool,
    root: TempDir,
    _database: Option<Database>,
}

impl Dure {
    /// `program` is the binary, `env!("CARGO_BIN_EXE_dure")` in a test of its package.
    pub fn builder(program: &str) -> Builder {
        Builder {
            program: program.to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
            packages: false,
            postgres: false,
        }
    }

    #[track_caller]
    pub fn start(program: &str) -> Self {
        Self::builder(program).start()
    }

    /// The folder of everything: `work` (where commands run), `home`, `config`, `data`.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The folder in which commands run.
    pub fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The owner's.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Writes a file in the folder in which commands run, with the folders above it.
    pub fn write_file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, content).expect("a file");
        path
    }

    /// A command of the binary's, with nothing of this process's environment and never a terminal.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command::command(&self.program, self.root.path());
        command.args(arguments);
        command
    }

    /// Runs `dure ARGUMENTS` to its end.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        command::output(self.command(arguments))
    }

    /// Runs `dure ARGUMENTS` as somebody else, in a project.
    #[track_caller]
    pub fn cli_as(&self, token: &str, project: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.envs([("DURE_URL", self.url()), ("DURE_TOKEN", token), ("DURE_PROJECT", project)]);
        command::output(command)
    }

    /// Runs `dure ARGUMENTS -o json`, which must succeed.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
        self.cli(&arguments).expect(0).json()
    }

    /// Starts `dure ARGUMENTS` and goes on.
    #[track_caller]
    pub fn spawn(&self, arguments: &[&str]) -> Background {
        self.spawn_with(arguments, &[])
    }

    fn spawn_with(&self, arguments: &[&str], variables: &[(String, String)]) -> Background {
        let mut command = self.command(arguments);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let shown = format!("{command:?}");
        Background::new(command.spawn().expect("the binary"), shown)
    }

    /// The API's client, as the owner, in the project `default`.
    pub fn client(&self) -> Client {
        self.client_as(&self.token, "default")
    }

    pub fn client_as(&self, token: &str, project: &str) -> Client {
        let project: Name = project.parse().expect("a name");
        Client::new(&self.url, token, project).expect("a client")
    }

    /// A request as it is: `path` begins with a slash.
    #[track_caller]
    pub fn http(&self, method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> Response {
        let method: reqwest::Method = method.parse().expect("a method");
        block_on(async {
            let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
            let mut request = http.request(method, format!("{}{path}", self.url));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let response = request.send().await.expect("an answer");
            let status = response.status().as_u16();
            let text = response.text().await.expect("a body");
            Response { status, text }
        })
    }

    /// The newest run of a job, environment or service.
    #[track_caller]
    pub fn run_of(&self, name: &str) -> String {
        let query = RunQuery { name: Some(name.to_owned()), ..RunQuery::default() };
        let runs = block_on(self.client().list_runs(&query)).expect("runs").items;
        runs.first().unwrap_or_else(|| panic!("no run of {name}")).id.to_string()
    }

    /// SIGKILL to the control plane, and to nothing else.
    pub fn kill(&mut self) {
        if let Some(mut up) = self.up.take() {
            up.kill();
        }
    }

    /// SIGTERM to the control plane; returns what it said.
    #[track_caller]
    pub fn terminate(&mut self) -> Output {
        let up = self.up.take().expect("a running control plane");
        up.signal(Signal::TERM);
        up.wait()
    }

    /// Starts the control plane again where it was; kills it first where it still runs.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        let listen = self.listen.clone();
        if !self.up(&listen) {
            // Somebody else has got the port meanwhile.
            assert!(self.up("127.0.0.1:0"), "dure up does not start");
        }
    }

    fn up(&mut self, listen: &str) -> bool {
        let data_dir = self.data_dir.display().to_string();
        let mut arguments = vec!["up", "--data-dir", &data_dir, "--listen", listen];
        arguments.extend(self.arguments.iter().map(String::as_str));
        let up = self.spawn_with(&arguments, &self.variables);
        if !up.wait_stdout("Listening ") {
            eprintln!("{}", up.wait());
            return false;
        }
        let said = up.stdout();
        let url = said.split("Listening ").nth(1).and_then(|rest| rest.split_whitespace().next());
        self.url = url.unwrap_or_else(|| panic!("no URL in: {said}")).to_owned();
        self.listen = self.url.trim_start_matches("http://").to_owned();
        self.token = self.read_token();
        self.up = Some(up);
        self.is_down = false;
        true
    }

    fn read_token(&self) -> String {
        let text = fs::read_to_string(self.root.path().join("config/profiles.toml")).expect("the profiles");
        let profiles: toml::Table = text.parse().expect("TOML");
        profiles["default"]["token"].as_str().expect("a token").to_owned()
    }

    /// The process id of the control plane.
    pub fn pid(&self) -> u32 {
        self.up.as_ref().expect("a running control plane").pid()
    }

    /// Every process of this control plane: itself, the keeper, units and what they started.
    pub fn processes(&self) -> Vec<Process> {
        leftover::of(self.root.path())
    }

    /// The one process of this control plane whose command line is like this.
    #[track_caller]
    pub fn process(&self, is_it: impl Fn(&str) -> bool) -> Process {
        let all = self.processes();
        let mut found = all.iter().filter(|process| is_it(&process.command));
        match (found.next(), found.next()) {
            (Some(one), None) => one.clone(),
            _ => panic!("not one such process: {all:#?}"),
        }
    }

    #[track_caller]
    pub fn keeper(&self) -> Process {
        self.process(|command| command.contains("dure keeper --state"))
    }

    /// SIGKILL to one process of this control plane, and waits for its end.
    #[track_caller]
    pub fn kill_process(&self, process: &Process) {
        assert!(self.processes().contains(process), "{process:?} is none of ours");
        let pid = rustix::process::Pid::from_raw(process.pid).expect("a process id");
        rustix::process::kill_process(pid, Signal::KILL).expect("a process");
        assert!(command::wait_for_end(pid, crate::DEADLINE));
    }

    /// Waits for the end of a process of this control plane that ends by itself, and until its parent knows.
    #[track_caller]
    pub fn wait_end(&self, process: &Process) {
        let pid = rustix::process::Pid::from_raw(process.pid).expect("a process id");
        assert!(command::wait_for_end(pid, crate::DEADLINE), "{process:?} does not end");
        // Nothing tells of the moment at which a zombie is reaped; it follows at once.
        let until = std::time::Instant::now() + crate::DEADLINE;
        while rustix::process::test_kill_process(pid).is_ok() {
            assert!(std::time::Instant::now() < until, "{process:?} is not reaped");
            std::thread::yield_now();
        }
    }

    /// `dure down`, which has to end everything; what it says that was.
    #[track_caller]
    pub fn down(&mut self) -> Value {
        let output = self.cli(&["down", "-o", "json"]).expect(0);
        self.is_down = true;
        let mut up = self.up.take().expect("a running control plane");
        assert_eq!(up.end(), Some(0), "the control plane's own end\n{}\n{}", up.stdout(), up.stderr());
        let left = leftover::wait_until_none(self.root.path());
        assert!(left.is_empty(), "left behind: {left:#?}\n{output}");
        output.json()
    }

    /// What the control plane and the keeper said, for a test that failed.
    fn last_words(&self) -> String {
        let keeper = fs::read_to_string(self.data_dir.join("keeper/keeper.log")).unwrap_or_default();
        let up = self.up.as_ref().map(|up| format!("{}{}", up.stdout(), up.stderr())).unwrap_or_default();
        format!("--- dure up\n{up}\n--- keeper\n{keeper}")
    }
}

impl Drop for Dure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.last_words());
            // A failed test leaves nothing either, if that can be had in good order and soon.
            if self.up.as_mut().is_some_and(Background::is_running) {
                self.spawn(&["down"]).wait_briefly();
            }
            self.kill();
            leftover::kill(self.root.path());
        } else {
            if !self.is_down {
                if !self.up.as_mut().is_some_and(Background::is_running) {
                    self.restart();
                }
                self.down();
            }
            let left = leftover::wait_until_none(self.root.path());
            leftover::remove(self.root.path());
            assert!(left.is_empty(), "left behind: {left:#?}");
        }
        leftover::remove(self.root.path());
    }
}

/// An answer over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub text: String,
}

impl Response {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text))
    }
}
