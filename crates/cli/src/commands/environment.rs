//! `dure environment`: list and show.

use dure_types::environment::{Environment, EnvironmentState};

use crate::{
    args,
    context::Context,
    exit::CliError,
    hint, messages,
    output::{self, Table, View, format},
};

pub async fn run(context: &Context, command: args::Environment) -> Result<(), CliError> {
    match command {
        args::Environment::List => list(context).await,
        args::Environment::Show { environment } => show(context, &environment).await,
    }
}

fn state(state: EnvironmentState) -> &'static str {
    match state {
        EnvironmentState::Declared => "declared",
        EnvironmentState::Building => "building",
        EnvironmentState::Ready => "ready",
        EnvironmentState::Failed => "failed",
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let page = context.client()?.list_environments().await?;
    context.show(&page, |page| {
        if page.items.is_empty() {
            return format!("{}\n", messages::none_found("environments"));
        }
        let mut table = Table::new([
            messages::h_name(),
            messages::h_digest(),
            messages::h_state(),
            messages::h_python(),
            messages::h_packages(),
            messages::h_build(),
            messages::h_created(),
        ])
        .right([4]);
        for environment in &page.items {
            table.row([
                environment.name.as_ref().map(ToString::to_string).unwrap_or_default(),
                environment.digest.short().to_owned(),
                state(environment.state).to_owned(),
                environment.python.clone().unwrap_or_default(),
                if environment.packages.is_empty() { String::new() } else { environment.packages.len().to_string() },
                environment.build.as_ref().map(|run| run.short().to_owned()).unwrap_or_default(),
                format::moment(environment.created_at),
            ]);
        }
        table.render(output::width())
    })?;
    Ok(())
}

pub async fn show(context: &Context, name: &str) -> Result<(), CliError> {
    let environment = context.client()?.get_environment(name).await?;
    context.show(&environment, |environment| render(environment, output::width()))?;
    hint::print(context, environment.build.as_ref().map(|run| hint::logs(run.short())))?;
    Ok(())
}

fn render(environment: &Environment, width: Option<usize>) -> String {
    let mut view = View::new();
    view.maybe(messages::h_name(), environment.name.as_ref().map(|name| name.as_str()));
    view.row(messages::h_digest(), environment.digest.as_str());
    view.row(messages::h_state(), state(environment.state));
    view.maybe(messages::h_error(), environment.error.as_ref());
    view.maybe(messages::h_python(), environment.python.as_ref().or(environment.input.python.as_ref()));
    view.row(messages::h_what(), environment.input.packages.join(", "));
    view.maybe(messages::h_build(), environment.build.as_ref().map(|run| run.short()));
    view.row(messages::h_created(), format!("{} ({})", format::moment(environment.created_at), environment.created_by));
    let mut text = view.render(width);
    if !environment.packages.is_empty() {
        let mut table = Table::new([messages::h_packages(), messages::h_version()]);
        for package in &environment.packages {
            table.row([&package.name, &package.version]);
        }
        text.push('\n');
        text.push_str(&table.render(width));
    }
    text
}
