//! `dure apply`: what a file says becomes so. What changes is shown, asked about, done, and followed.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
};

use dure_client::Client;
use dure_types::{
    RunId,
    change::{Change, ChangeAction, ChangeSet},
    environment::EnvironmentState,
    spec::Kind,
};

use crate::{
    args, context::Context, exit::CliError, follow::Follower, hint, load, messages, output::format, progress::Progress,
};

pub async fn run(context: &Context, arguments: args::Apply) -> Result<(), CliError> {
    let file = arguments.file.display().to_string();
    let loaded = load_file(&arguments.file).await?;
    let must_ask = !arguments.yes;
    let can_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    let client = context.client()?;
    let progress = Progress::new(context);
    let request = loaded.send(&client, &progress, arguments.rerun).await?;
    let planned = client.plan_changes(&request).await?;
    if must_ask || !context.is_for_programs() {
        context.say(super::plan::render(&planned).trim_end())?;
    }
    let done = if planned.is_empty() {
        context.say(&messages::nothing_to_change())?;
        planned
    } else {
        if must_ask && !can_ask {
            return Err(CliError::usage_next(messages::not_a_terminal(), messages::not_a_terminal_next()));
        }
        if must_ask && !confirmed()? {
            context.say(&messages::not_applied())?;
            return Ok(());
        }
        client.apply_changes(&request).await?
    };
    if context.is_for_programs() {
        context.show(&done, |_| String::new())?;
    }
    if arguments.detach {
        for run in done.changes.iter().filter(|change| is_new(change)).filter_map(|change| change.run.as_ref()) {
            context.say(&messages::goes_on(run.short()))?;
        }
    } else {
        // Applied from standard input, there is no file to name.
        let again = (arguments.file != Path::new("-")).then(|| hint::apply(&file));
        let follower = Follower { context, client: &client, progress: &progress, again };
        follow(&follower, &client, &done).await?;
    }
    hint::print(context, next(&done))?;
    Ok(())
}

/// The file is read and its folders are walked away from the threads that wait.
pub async fn load_file(file: &Path) -> Result<load::Loaded, CliError> {
    let file = file.to_owned();
    tokio::task::spawn_blocking(move || load::load(&file)).await.map_err(|error| CliError::failed(error.to_string()))?
}

/// An empty answer is yes, the end of the input is no.
fn confirmed() -> io::Result<bool> {
    let mut err = io::stderr().lock();
    write!(err, "{}", messages::apply_question())?;
    err.flush()?;
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer)? == 0 {
        writeln!(err)?;
        return Ok(false);
    }
    Ok(matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes" | "예" | "네" | "ㅇ"))
}

/// Something goes on because of this change.
fn is_new(change: &Change) -> bool {
    change.action != ChangeAction::Keep
}

/// In the order of the file's needs: runs first, because services wait for what they make. Every run has
/// its streams from their beginning, so nothing is missed by following one after the other.
async fn follow(follower: &Follower<'_>, client: &Client, done: &ChangeSet) -> Result<(), CliError> {
    for change in done.changes.iter().filter(|change| change.kind == Kind::Dataset && is_new(change)) {
        if let Some(version) = change.version {
            let name = format!("{}@{version}", change.name);
            follower
                .context
                .say(&format!("  {}", messages::output_line("dataset", name, format::clean(&change.summary))))?;
        }
    }
    let mut failed = None;
    for run in runs(client, done).await? {
        match follower.run(&run).await {
            Ok(_) => {}
            // The other runs go on, and what became of them is told too; the first fault is the outcome.
            Err(error @ CliError::Said(_)) => {
                if let Some(earlier) = failed.replace(error) {
                    anstream::eprint!("{}", earlier.render());
                }
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    for change in done.changes.iter().filter(|change| change.kind == Kind::Service) {
        if is_new(change) {
            follower.service(&change.name, client.url()).await?;
        } else {
            follower.unchanged_service(&change.name, client.url()).await?;
        }
    }
    Ok(())
}

/// What goes on for this file, whether this apply began it or an earlier one: jobs, and the builds of
/// environments that none of its jobs waits for.
async fn runs(client: &Client, done: &ChangeSet) -> Result<Vec<RunId>, CliError> {
    let mut runs = Vec::new();
    let of = |kind| done.changes.iter().filter(move |change| change.kind == kind);
    for change in of(Kind::Job) {
        if let Some(run) = &change.run
            && (is_new(change) || !client.get_run(run.as_str()).await?.run.state.is_over())
        {
            runs.push(run.clone());
        }
    }
    if runs.is_empty() {
        for change in of(Kind::Environment) {
            let environment = client.get_environment(change.name.as_str()).await?;
            let goes_on = environment.state == EnvironmentState::Building || is_new(change);
            runs.extend(environment.build.filter(|_| goes_on));
        }
    }
    Ok(runs)
}

/// Ask the service, look at the run, see what it cost.
fn next(done: &ChangeSet) -> Vec<String> {
    let of = |kind| done.changes.iter().rev().find(move |change| change.kind == kind);
    let mut next = Vec::new();
    next.extend(of(Kind::Service).map(|change| hint::predict(&change.name)));
    next.extend(of(Kind::Job).and_then(|change| change.run.as_ref()).map(|run| hint::show(run.short())));
    if next.is_empty() {
        next.extend(of(Kind::Dataset).map(|change| hint::show(format!("dataset/{}", change.name))));
        next.extend(of(Kind::Environment).map(|change| hint::show(format!("environment/{}", change.name))));
    } else {
        next.push(hint::cost());
    }
    next
}
