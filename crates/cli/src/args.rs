//! The command line. What it says here is what `dure help` prints and the reference is made from.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use dure_types::{
    Cpu, Memory, Name, Reference, Selector, Span,
    cost::CostBy,
    run::{RunKind, RunState},
    user::Role,
};

use crate::{messages, output::Format};

/// Trains, serves and runs machine-learning work on the machines you have.
#[derive(Debug, Parser)]
#[command(name = "dure", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// How to print: for people, or exactly what the API answers
    #[arg(short = 'o', id = "output-format", value_name = "table|json|yaml", global = true, value_enum, default_value_t = Format::Table, hide_possible_values = true, hide_default_value = true)]
    pub format: Format,
    /// The project to act in
    #[arg(long, value_name = "NAME", global = true)]
    pub project: Option<Name>,
    /// The profile that says which control plane
    #[arg(long, value_name = "NAME", global = true)]
    pub profile: Option<String>,
    /// No progress and no hints
    #[arg(long, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the control plane, gateway and engine of this machine
    Up(Up),
    /// End the control plane and everything that runs
    Down(Down),
    /// Do what a file says: show what changes, ask, do it, follow it
    Apply(Apply),
    /// Show what a file would change, where it would run and what it costs
    Plan(Plan),
    /// Run a command as a job without a file
    Run(Run),
    /// List runs
    Ps(Ps),
    /// Print what a program printed
    Logs(Logs),
    /// Stop a run, or service/NAME
    Stop(Stop),
    /// Say what a run waits for, or what became of it
    Why(Why),
    /// Show one thing: 7f3a, model/digits@1, service/digits, dataset/digits ...
    Show(Show),
    /// Send the rows of a file through a service
    Predict(Predict),
    /// Say what was spent, and against which baseline
    Cost(Cost),
    /// Say what this machine has and lacks
    Doctor(Doctor),
    /// Print the JSON Schema of the spec, or of a part of it
    Schema(Schema),
    /// Datasets: named folders of files whose versions never change
    #[command(subcommand)]
    Dataset(Dataset),
    /// Models and their versions
    #[command(subcommand)]
    Model(Model),
    /// Environments: the packages that runs import
    #[command(subcommand)]
    Environment(Environment),
    /// Services: models that answer
    #[command(subcommand)]
    Service(Service),
    /// Nodes: machines that runs are placed on
    #[command(subcommand)]
    Node(Node),
    /// Events: what happened, in order
    #[command(subcommand)]
    Event(Event),
    /// Projects and their members
    #[command(subcommand)]
    Project(Project),
    /// Users of the domain
    #[command(subcommand)]
    User(User),
    /// Tokens
    #[command(subcommand)]
    Token(Token),
    /// Print the completions of a shell
    Completions(Completions),
    #[command(hide = true, disable_help_flag = true)]
    Keeper(Rest),
    #[command(hide = true, disable_help_flag = true)]
    ModelServer(Rest),
    #[command(hide = true, disable_help_flag = true)]
    BuildEnvironment(Rest),
}

/// What is handed on as it is.
#[derive(Debug, Args)]
pub struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Up {
    /// Where to listen; 127.0.0.1:7770 unless said, and port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = socket_address)]
    pub listen: Option<SocketAddr>,
    /// Where state is kept
    #[arg(long, value_name = "FOLDER", env = "DURE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL instead of the SQLite file in the data folder
    #[arg(long, value_name = "URL", env = "DURE_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Certificate chain in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Listen beyond this machine without TLS: tokens and data travel readable
    #[arg(long)]
    pub insecure: bool,
    /// What an hour of this machine costs, in US dollars
    #[arg(long, value_name = "USD_PER_HOUR", allow_negative_numbers = true, value_parser = dollars)]
    pub rate: Option<f64>,
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| messages::bad_listen(text))
}

fn dollars(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| messages::bad_rate(text))
}

#[derive(Debug, Args)]
pub struct Down {
    /// Where state is kept, for what goes on when the control plane itself is gone
    #[arg(long, value_name = "FOLDER", env = "DURE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Its database, where that is not the SQLite file in the data folder
    #[arg(long, value_name = "URL", env = "DURE_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
}

#[derive(Debug, Args)]
pub struct Apply {
    /// The file; - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Start jobs again although nothing of them changed
    #[arg(long)]
    pub rerun: bool,
    /// Do not follow what was started
    #[arg(short, long)]
    pub detach: bool,
}

#[derive(Debug, Args)]
pub struct Plan {
    /// The file; - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// As if jobs were started again although nothing of them changed
    #[arg(long)]
    pub rerun: bool,
}

#[derive(Debug, Args)]
pub struct Run {
    /// What to call it; the command's own name unless said
    #[arg(long)]
    pub name: Option<Name>,
    /// CPU: 1, 0.5 or 500m
    #[arg(long, value_name = "AMOUNT")]
    pub cpu: Option<Cpu>,
    /// Memory: 512Mi, 4Gi or 2G
    #[arg(long, value_name = "AMOUNT")]
    pub memory: Option<Memory>,
    /// Whole GPUs
    #[arg(long, value_name = "NUMBER")]
    pub gpu: Option<u32>,
    /// An environment variable; may stand several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// The environment whose packages it imports
    #[arg(long, value_name = "NAME")]
    pub environment: Option<Name>,
    /// A folder that becomes its working directory
    #[arg(long, value_name = "FOLDER")]
    pub code: Option<PathBuf>,
    /// End it after this time: 90s, 30m, 1h30m, 7d
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,
    /// Do not follow it
    #[arg(short, long)]
    pub detach: bool,
    /// The command, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Ps {
    /// Those that are over, too
    #[arg(short, long)]
    pub all: bool,
    /// Only in this state
    #[arg(long, value_parser = run_state)]
    pub state: Option<RunState>,
    /// Only of this kind: job, build or replica
    #[arg(long, value_parser = run_kind)]
    pub kind: Option<RunKind>,
    /// Only of this job, environment or service
    #[arg(long)]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// A run's id or its beginning, or a job's name for its newest run
    #[arg(value_name = "RUN|JOB")]
    pub run: String,
    /// Go on until the run is over
    #[arg(short, long)]
    pub follow: bool,
    /// The lines that report metrics, too
    #[arg(long)]
    pub raw: bool,
    /// Another attempt than the last
    #[arg(long, value_name = "NUMBER")]
    pub attempt: Option<u32>,
}

#[derive(Debug, Args)]
pub struct Stop {
    /// A run's id or its beginning, a job's name, or service/NAME
    #[arg(value_name = "RUN|service/NAME")]
    pub thing: String,
}

#[derive(Debug, Args)]
pub struct Why {
    /// A run's id or its beginning, or a job's name for its newest run
    #[arg(value_name = "RUN|JOB")]
    pub run: String,
}

#[derive(Debug, Args)]
pub struct Show {
    /// 7f3a, model/digits@1, service/digits, dataset/digits, environment/sklearn, job/train-digits, node/NAME
    #[arg(value_name = "THING")]
    pub thing: String,
}

#[derive(Debug, Args)]
pub struct Predict {
    /// The service to ask
    pub service: Name,
    /// A CSV file with a header, a JSON array, or JSON lines; - for standard input
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// The column with what is right: left out of the input and compared with the answers
    #[arg(long, value_name = "COLUMN")]
    pub truth: Option<String>,
    /// Write every row to this file: CSV, or JSON where it ends in .json
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Cost {
    /// What to sum up: run, name, service, user, project or day
    #[arg(long, value_parser = cost_by, default_value = "run")]
    pub by: CostBy,
    /// Only what was used since: 30d, 12h, or a date such as 2026-11-24
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// The folder with the state to look at
    #[arg(long, value_name = "FOLDER", env = "DURE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Schema {
    /// Such as job, job.resources, service.replicas; everything unless said
    #[arg(value_name = "KIND[.FIELD]")]
    pub path: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Dataset {
    /// List datasets
    List {
        /// Only names with this in them
        #[arg(long)]
        search: Option<String>,
    },
    /// Show one and its versions, or one version's files
    Show {
        #[arg(value_name = "NAME[@VERSION]")]
        dataset: String,
    },
    /// Upload a file or folder as a new version
    Create {
        name: Name,
        #[arg(value_name = "FILE|FOLDER")]
        source: PathBuf,
    },
    /// Give one another name
    Rename { name: Name, to: Name },
    /// Download a version as a zip archive
    Download {
        #[arg(value_name = "NAME[@VERSION]")]
        dataset: Reference,
        /// Where to; NAME-VERSION.zip here unless said
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Delete one with all its versions
    Delete { name: Name },
}

#[derive(Debug, Subcommand)]
pub enum Model {
    /// List models
    List {
        /// Only names with this in them
        #[arg(long)]
        search: Option<String>,
    },
    /// Show one and its versions, or one version
    Show {
        #[arg(value_name = "NAME[@VERSION]")]
        model: String,
    },
    /// Register an ONNX file as a new version
    Register {
        file: PathBuf,
        /// The model's name; the file's unless said
        #[arg(long)]
        name: Option<Name>,
    },
    /// Let an alias stand for a version
    Alias {
        #[arg(value_name = "NAME@VERSION")]
        version: Reference,
        alias: Name,
    },
    /// Download a version's file
    Download {
        #[arg(value_name = "NAME[@VERSION]")]
        model: Reference,
        /// Where to; NAME-VERSION.onnx here unless said
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Environment {
    /// List environments
    List,
    /// Show one with its packages
    Show {
        #[arg(value_name = "NAME|DIGEST")]
        environment: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Service {
    /// List services
    List,
    /// Show one with its replicas
    Show { service: Name },
    /// Delete one; its replicas end
    Delete { service: Name },
}

#[derive(Debug, Subcommand)]
pub enum Node {
    /// List nodes
    List,
}

#[derive(Debug, Subcommand)]
pub enum Event {
    /// List events
    List {
        /// Go on with those to come
        #[arg(short, long)]
        follow: bool,
        /// Only of this run, service ... by id or name
        #[arg(long)]
        subject: Option<String>,
        /// How many of the newest; 100 unless said
        #[arg(long, value_name = "NUMBER")]
        limit: Option<u32>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Project {
    /// List the projects that you may see
    List,
    /// Create a project
    Create { name: Name },
    /// List the members of the project
    Members,
    /// Make a user a member of the project, or change their role
    Add {
        user: Name,
        /// viewer, member or admin
        #[arg(long, default_value = "member")]
        role: Role,
    },
    /// Take a user out of the project
    Remove { user: Name },
}

#[derive(Debug, Subcommand)]
pub enum User {
    /// List the users of the domain
    List,
    /// Create a user
    Create { name: Name },
}

#[derive(Debug, Subcommand)]
pub enum Token {
    /// List tokens
    List,
    /// Create a token; it is shown once
    Create {
        /// For whom; yourself unless said
        #[arg(long)]
        user: Option<Name>,
        /// What it is for
        #[arg(long, default_value = "")]
        title: String,
    },
    /// Make a token worthless
    Revoke { id: String },
}

#[derive(Debug, Args)]
pub struct Completions {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

fn run_state(text: &str) -> Result<RunState, String> {
    RunState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = RunState::ALL.iter().map(|state| state.as_str()).collect();
        format!("the states are {}", known.join(", "))
    })
}

fn run_kind(text: &str) -> Result<RunKind, String> {
    [RunKind::Job, RunKind::Build, RunKind::Replica]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| "the kinds are job, build and replica".to_owned())
}

fn cost_by(text: &str) -> Result<CostBy, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| "it is one of run, name, service, user, project and day".to_owned())
}

/// `name` or `name@selector`, where no selector means the whole thing rather than its latest version.
pub fn name_and_selector(text: &str) -> Result<(Name, Option<Selector>), String> {
    let (name, selector) = match text.split_once('@') {
        Some((name, selector)) => {
            (name, Some(selector.parse().map_err(|error: dure_types::name::NameError| error.to_string())?))
        }
        None => (text, None),
    };
    Ok((Name::new(name).map_err(|error| error.to_string())?, selector))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// Rows of docs/reference/vocabulary.md, with every option in use.
    #[test]
    fn every_command_of_the_vocabulary_is_read() {
        for line in [
            "dure up --listen 127.0.0.1:7770 --data-dir /d --database-url postgres://x --rate 0.5 --insecure",
            "dure up --tls-cert c.pem --tls-key k.pem",
            "dure down",
            "dure apply -f dure.yaml --yes --rerun --detach",
            "dure plan -f dure.yaml",
            "dure run --name n --cpu 500m --memory 1Gi --gpu 1 --env A=b --env C=d --environment e --code . --timeout 5m --detach -- python train.py --lr 1",
            "dure ps --all --state failed --kind job --name train",
            "dure logs 7f3a -f --raw --attempt 2",
            "dure stop service/digits",
            "dure why 7f3a",
            "dure show model/digits@1 -o json",
            "dure predict digits --input held-out.csv --truth label --output out.csv -o yaml",
            "dure cost --by service --since 30d --project p --profile q --quiet",
            "dure doctor",
            "dure schema job.resources",
            "dure dataset create digits ./data",
            "dure dataset rename digits numbers",
            "dure dataset download digits@2 --to x.zip",
            "dure dataset delete digits",
            "dure model register m.onnx --name digits",
            "dure model alias digits@1 production",
            "dure model download digits@production",
            "dure environment show sklearn",
            "dure service delete digits",
            "dure node list",
            "dure event list -f",
            "dure project add lee --role viewer",
            "dure project remove lee",
            "dure user create lee",
            "dure token create --user lee --title ci",
            "dure token revoke abc",
            "dure completions bash",
            "dure keeper --anything -x",
            "dure model-server --help",
            "dure build-environment x --y",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
        for line in ["dure", "dure apply", "dure run", "dure up --tls-cert c.pem", "dure ps --state going", "dure logs"]
        {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn a_name_without_a_selector_is_the_whole_thing() {
        assert_eq!(name_and_selector("digits").unwrap().1, None);
        assert_eq!(name_and_selector("digits@2").unwrap().1, Some(Selector::Version(2)));
        assert!(name_and_selector("digits@").is_err());
        assert!(name_and_selector("a/b").is_err());
    }
}
