//! One run with everything that is known of it.

use std::pin::pin;

use dure_client::{Client, MetricEvent};
use dure_types::{
    RunId,
    run::{Attempt, RunDetail, RunState},
    spec::{EnvironmentUse, OutputKind},
};
use futures_util::StreamExt as _;

use crate::{
    context::Context,
    exit::CliError,
    follow::{
        self,
        view::{Series, named},
    },
    hint, messages,
    output::{self, View, format},
};

pub async fn show(context: &Context, client: &Client, id: &RunId) -> Result<(), CliError> {
    let detail = client.get_run(id.as_str()).await?;
    if context.is_for_programs() {
        return Ok(output::data(&detail, context.format())?);
    }
    let mut series = if detail.run.state.is_over() {
        all_points(client, id).await?
    } else {
        Series::of(client.list_metrics(id.as_str()).await?.items)
    };
    // Of a run that reports much, the first page says how it began, and this where it is.
    series.end_with(&detail.run.metrics);
    output::text(&render(&detail, &series, output::width()))?;
    hint::print(context, next(&detail))?;
    Ok(())
}

async fn all_points(client: &Client, id: &RunId) -> Result<Series, CliError> {
    let mut series = Series::default();
    let mut events = pin!(client.follow_metrics(id.as_str()));
    while let Some(MetricEvent::Point(point)) = events.next().await.transpose()? {
        series.add(point);
    }
    Ok(series)
}

fn render(detail: &RunDetail, series: &Series, width: Option<usize>) -> String {
    let run = &detail.run;
    let mut view = View::new();
    view.row(messages::h_run(), run.id.as_str());
    view.row(messages::h_name(), format!("{} ({})", run.name, run.kind.as_str()));
    view.row(messages::h_state(), run.state.as_str());
    view.maybe(
        messages::h_reason(),
        run.reason.as_ref().filter(|_| run.state != RunState::Succeeded).map(|reason| &reason.message),
    );
    view.maybe(messages::h_node(), run.node.as_ref().map(|node| node.as_str()));
    let gpu = if run.gpu > 0 { format!(", {} GPU", run.gpu) } else { String::new() };
    view.row(messages::h_resources(), format!("{} CPU, {}{gpu}", run.cpu, run.memory));
    view.row(messages::h_created(), format!("{} ({})", format::moment(run.created_at), run.created_by));
    view.maybe(messages::h_started(), run.started_at.map(format::moment));
    view.maybe(messages::h_ended(), run.ended_at.map(format::moment));
    view.maybe(messages::h_took(), follow::took(run).map(format::duration));
    view.row(messages::h_cost(), run.cost.to_string());
    if let Some(spec) = &detail.spec {
        view.row(messages::h_command(), &spec.command);
        if let Some(EnvironmentUse::Named(name)) = &spec.environment {
            view.row(messages::h_environment(), name.as_str());
        }
    }
    view.maybe(messages::h_code(), detail.code.as_ref().map(|code| code.short()));
    view.row(messages::h_data(), detail.inputs.join(", "));
    view.lines(messages::h_metrics(), series.render(follow::view::planned_steps(detail), &[]));
    if detail.attempts.len() > 1 || run.state == RunState::Failed {
        view.lines(messages::h_attempts(), detail.attempts.iter().map(attempt));
    } else if let Some(attempt) = detail.attempts.last() {
        view.row(messages::h_attempts(), usage(attempt).join(", "));
    }
    let outputs = detail
        .outputs
        .iter()
        .map(|output| format!("{} {}   {}", output.kind.as_str(), named(output), format::bytes(output.bytes)));
    view.lines(messages::h_outputs(), outputs);
    view.render(width)
}

/// `2   this-machine   exit 1   2.0 s   $0.0001`
fn attempt(attempt: &Attempt) -> String {
    let mut parts = vec![attempt.number.to_string(), attempt.node.to_string()];
    parts.extend(attempt.exit_code.map(|code| format!("exit {code}")));
    parts.extend(attempt.signal.map(|signal| format!("signal {signal}")));
    parts.extend(attempt.reason.as_ref().map(|reason| reason.message.clone()));
    if let (Some(started), Some(ended)) = (attempt.started_at, attempt.ended_at) {
        parts.push(format::duration(ended.since(started)));
    }
    parts.extend(usage(attempt));
    parts.push(attempt.cost.to_string());
    parts.join("   ")
}

fn usage(attempt: &Attempt) -> Vec<String> {
    let cpu = attempt.cpu_seconds.map(|seconds| format!("{} CPU", format::seconds(seconds)));
    let memory = attempt.peak_memory_bytes.map(|bytes| format!("{} peak", format::bytes(bytes)));
    cpu.into_iter().chain(memory).collect()
}

fn next(detail: &RunDetail) -> Vec<String> {
    let id = detail.run.id.short();
    let mut next = match detail.run.state {
        RunState::Queued | RunState::Preparing => vec![hint::why(id), hint::stop(id)],
        RunState::Running | RunState::Stopping => vec![hint::logs_follow(id), hint::stop(id)],
        RunState::Succeeded | RunState::Failed | RunState::Cancelled => vec![hint::logs(id)],
    };
    next.extend(
        detail
            .outputs
            .iter()
            .filter(|output| output.kind == OutputKind::Model)
            .map(|output| hint::show(format!("model/{}", named(output)))),
    );
    next
}
