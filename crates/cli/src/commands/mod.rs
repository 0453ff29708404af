//! One file for each command, called after it.

mod apply;
mod build_environment;
mod completions;
mod cost;
mod dataset;
mod doctor;
mod down;
mod environment;
mod event;
mod keeper;
mod logs;
mod model;
mod model_server;
mod node;
mod plan;
mod predict;
mod project;
mod ps;
mod run;
mod run_view;
mod schema;
mod service;
mod show;
mod stop;
mod token;
mod up;
mod user;
mod why;

use std::{path::PathBuf, process::ExitCode};

use crate::{
    args::{Cli, Command},
    context::Context,
    exit::{CliError, Exit},
    messages,
};

/// Runs a command to its end and says what went wrong.
pub fn run(cli: Cli) -> ExitCode {
    let context = Context::new(cli.global);
    let outcome = match cli.command {
        // What Dure starts itself brings its own runtime and exit codes.
        Command::Keeper(rest) => return keeper::run(rest.arguments),
        Command::ModelServer(rest) => return model_server::run(rest.arguments),
        Command::BuildEnvironment(rest) => return build_environment::run(rest.arguments),
        Command::Up(arguments) => up::run(&context, arguments),
        command => match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let outcome = runtime.block_on(ask(&context, command));
                // Nobody waits for a read of standard input that never ends.
                runtime.shutdown_background();
                outcome
            }
            Err(error) => Err(CliError::failed(error.to_string())),
        },
    };
    match outcome {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            anstream::eprint!("{}", error.render());
            error.exit().into()
        }
    }
}

/// The commands that speak with a control plane, or with nobody.
async fn ask(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Down(arguments) => down::run(context, arguments).await,
        Command::Apply(arguments) => apply::run(context, arguments).await,
        Command::Plan(arguments) => plan::run(context, arguments).await,
        Command::Run(arguments) => run::run(context, arguments).await,
        Command::Ps(arguments) => ps::run(context, arguments).await,
        Command::Logs(arguments) => logs::run(context, arguments).await,
        Command::Stop(arguments) => stop::run(context, arguments).await,
        Command::Why(arguments) => why::run(context, arguments).await,
        Command::Show(arguments) => show::run(context, arguments).await,
        Command::Predict(arguments) => predict::run(context, arguments).await,
        Command::Cost(arguments) => cost::run(context, arguments).await,
        Command::Doctor(arguments) => doctor::run(context, arguments).await,
        Command::Schema(arguments) => schema::run(context, arguments),
        Command::Dataset(command) => dataset::run(context, command).await,
        Command::Model(command) => model::run(context, command).await,
        Command::Environment(command) => environment::run(context, command).await,
        Command::Service(command) => service::run(context, command).await,
        Command::Node(command) => node::run(context, command).await,
        Command::Event(command) => event::run(context, command).await,
        Command::Project(command) => project::run(context, command).await,
        Command::User(command) => user::run(context, command).await,
        Command::Token(command) => token::run(context, command).await,
        Command::Completions(arguments) => completions::run(arguments),
        Command::Up(_) | Command::Keeper(_) | Command::ModelServer(_) | Command::BuildEnvironment(_) => Ok(()),
    }
}

/// What was done, for people; a program sees it by the exit code, because the API answers nothing.
fn done(context: &Context, line: &str) -> Result<(), CliError> {
    Ok(context.say(line)?)
}

/// Where a download goes: never over a file that is there.
fn target_file(to: Option<PathBuf>, usual: impl FnOnce() -> String) -> Result<PathBuf, CliError> {
    let target = to.unwrap_or_else(|| PathBuf::from(usual()));
    if target.symlink_metadata().is_ok() {
        return Err(CliError::usage_next(messages::exists_already(target.display()), messages::exists_already_next()));
    }
    Ok(target)
}
