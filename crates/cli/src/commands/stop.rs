//! `dure stop`: a run, or a service with its replicas.

use dure_types::{Name, run::RunState};

use crate::{args, context::Context, exit::CliError, find, hint, messages};

pub async fn run(context: &Context, arguments: args::Stop) -> Result<(), CliError> {
    if let Some(name) = arguments.thing.strip_prefix("service/") {
        let name = Name::new(name).map_err(|error| CliError::usage(error.to_string()))?;
        return super::service::delete(context, &name).await;
    }
    let client = context.client()?;
    let run = find::run(&client, &arguments.thing).await?;
    if run.state.is_over() {
        let line = messages::over_already(run.id.short(), &run.name, run.state.as_str());
        context.show(&run, |_| format!("{line}\n"))?;
        hint::print(context, [hint::show(run.id.short()), hint::ps()])?;
        return Ok(());
    }
    let run = client.stop_run(run.id.as_str()).await?;
    context.show(&run, |run| {
        let state = if run.state.is_over() { run.state } else { RunState::Stopping };
        format!("{}\n", messages::stopped_run(run.id.short(), state.as_str()))
    })?;
    hint::print(context, [hint::why(run.id.short()), hint::ps()])?;
    Ok(())
}
