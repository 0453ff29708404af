//! `dure ps`: runs.

use dure_types::{
    Page,
    run::{Run, RunQuery, RunState},
};
use futures_util::TryStreamExt as _;

use crate::{
    args,
    context::Context,
    exit::CliError,
    follow, hint, messages,
    output::{self, Cell, Table, format, style},
};

pub async fn run(context: &Context, arguments: args::Ps) -> Result<(), CliError> {
    let client = context.client()?;
    let state = match (arguments.state, arguments.all) {
        (Some(state), _) => Some(state.as_str().to_owned()),
        (None, true) => None,
        (None, false) => Some("active".to_owned()),
    };
    let only_active = state.as_deref() == Some("active");
    let query =
        RunQuery { state, kind: arguments.kind, name: arguments.name, limit: Some(1000), ..RunQuery::default() };
    let items: Vec<Run> = client.all_runs(query).try_collect().await?;
    let newest = items.first().map(|run| run.id.short().to_owned());
    context.show(&Page { items, next: None }, |page| match page.items.as_slice() {
        [] if only_active => format!("{}\n", messages::nothing_runs()),
        [] => format!("{}\n", messages::no_runs()),
        runs => table(runs).render(output::width()),
    })?;
    if let Some(newest) = newest {
        hint::print(context, [hint::show(&newest), hint::logs_follow(&newest)])?;
    }
    Ok(())
}

pub fn table(runs: &[Run]) -> Table {
    let mut table = Table::new([
        messages::h_run(),
        messages::h_name(),
        messages::h_kind(),
        messages::h_state(),
        messages::h_node(),
        messages::h_started(),
        messages::h_took(),
        messages::h_cost(),
        messages::h_reason(),
    ])
    .right([6, 7]);
    for run in runs {
        let reason = match run.state {
            RunState::Succeeded | RunState::Running => None,
            _ => run.reason.as_ref().map(|reason| reason.message.as_str()),
        };
        table.row([
            Cell::from(run.id.short()),
            Cell::from(run.name.as_str()),
            Cell::from(run.kind.as_str()),
            Cell::styled(run.state.as_str(), style::run_state(run.state)),
            Cell::from(run.node.as_ref().map_or("", |node| node.as_str())),
            Cell::from(run.started_at.map(format::moment).unwrap_or_default()),
            Cell::from(follow::took(run).map(format::duration).unwrap_or_default()),
            Cell::from(run.cost.to_string()),
            Cell::from(reason.unwrap_or_default()),
        ]);
    }
    table
}
