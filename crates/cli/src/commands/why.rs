//! `dure why`: what a run waits for, who holds it, and what would start it sooner.

use dure_types::run::{Holder, Run, RunState, Why};

use crate::{
    args,
    context::Context,
    exit::CliError,
    find, hint, messages,
    output::{self, View, format},
};

pub async fn run(context: &Context, arguments: args::Why) -> Result<(), CliError> {
    let client = context.client()?;
    let run = find::run(&client, &arguments.run).await?;
    let why = client.explain_run(run.id.as_str()).await?;
    context.show(&why, |why| render(&run, why, output::width()))?;
    let id = run.id.short();
    hint::print(
        context,
        if why.state == RunState::Queued {
            vec![hint::stop(id), hint::ps()]
        } else {
            vec![hint::logs(id), hint::show(id)]
        },
    )?;
    Ok(())
}

fn render(run: &Run, why: &Why, width: Option<usize>) -> String {
    let mut view = View::new();
    view.lines(messages::h_held_by(), why.held_by.iter().map(holder));
    view.maybe(messages::h_waits_for(), why.waits_for.as_ref().map(|run| messages::from_run(run.short())));
    view.maybe(messages::h_place(), why.place.map(messages::place_in_queue));
    view.maybe(messages::h_starts_by(), why.starts_by.map(|at| messages::starts_by(format::moment(at))));
    view.maybe(messages::h_sooner(), why.sooner.as_ref());
    let summary = format::clean(&why.summary);
    let head = match why.state {
        RunState::Queued => {
            let what = summary.strip_prefix("waits for ").unwrap_or(&summary);
            messages::waiting_for(format::duration(format::now().since(run.created_at)), what)
        }
        state if summary.starts_with(state.as_str()) => summary,
        state => format!("{}: {summary}", state.as_str()),
    };
    format!("{head}\n{}", view.render(width))
}

/// `run 88d0 (lee, vision) 1 CPU, 2Gi, ends in 14 min at the latest`
fn holder(holder: &Holder) -> String {
    let mut what = format!("{} CPU, {}", holder.cpu, holder.memory);
    if holder.gpu > 0 {
        what.push_str(&format!(", {} GPU", holder.gpu));
    }
    let mut line = messages::holder(holder.run.short(), &holder.name, &holder.created_by, what);
    if let Some(ends) = holder.ends_by {
        line.push_str(", ");
        line.push_str(&messages::holder_ends(format::duration(ends.since(format::now()))));
    }
    line
}
