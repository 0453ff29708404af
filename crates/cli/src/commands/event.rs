//! `dure event list`: what happened, and with -f what happens.

use std::pin::pin;

use dure_types::{
    Digest, RunId,
    event::{Event, EventQuery},
};
use futures_util::StreamExt as _;

use crate::{
    args,
    context::Context,
    exit::{CliError, Exit},
    messages,
    output::{self, Format, Table, format},
};

pub async fn run(context: &Context, command: args::Event) -> Result<(), CliError> {
    let args::Event::List { follow, subject, limit } = command;
    let client = context.client()?;
    if !follow {
        let query = EventQuery { subject, newest: true, limit: Some(limit.unwrap_or(100)), ..EventQuery::default() };
        let page = client.list_events(&query).await?;
        context.show(&page, |page| {
            let headings = [
                messages::h_at(),
                messages::h_what(),
                messages::h_name(),
                messages::h_state(),
                messages::h_by(),
                messages::h_reason(),
            ];
            let mut table = Table::new(headings);
            page.items.iter().for_each(|event| table.row(row(event)));
            table.render(output::width())
        })?;
        return Ok(());
    }
    let mut events = pin!(client.follow_events(EventQuery { subject, ..EventQuery::default() }));
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            event = events.next() => match event.transpose()? {
                Some(event) => print(context, &event)?,
                None => return Ok(()),
            },
            _ = &mut interrupt => return Err(CliError::Silent(Exit::Interrupted)),
        }
    }
}

fn row(event: &Event) -> [String; 6] {
    [
        format::moment(event.at),
        event.resource.clone(),
        subject(event),
        event.action.clone(),
        event.actor.clone(),
        event.message.clone().unwrap_or_default(),
    ]
}

/// Runs are called by the beginning of their ids, here as everywhere, and so is what has only a digest.
fn subject(event: &Event) -> String {
    match (event.subject.parse::<RunId>(), event.subject.parse::<Digest>()) {
        (Ok(id), _) => id.short().to_owned(),
        (_, Ok(digest)) => digest.short().to_owned(),
        _ => event.subject.clone(),
    }
}

/// One line for each: JSON on one line too, so that a program can read them as they come.
fn print(context: &Context, event: &Event) -> Result<(), CliError> {
    match context.format() {
        Format::Table => {
            let [at, resource, subject, action, actor, message] = row(event).map(|text| format::clean(&text));
            output::line(format!("{at}   {resource:11} {subject:16} {action:12} {actor}   {message}").trim_end())?;
        }
        Format::Json => output::line(serde_json::to_string(event).map_err(std::io::Error::from)?)?,
        Format::Yaml => {
            output::line("---")?;
            output::data(event, Format::Yaml)?;
        }
    }
    Ok(())
}
