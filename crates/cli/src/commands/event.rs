//! `dure event list`: what happened, and with -f what happens.

use std::{collections::VecDeque, pin::pin};

use dure_client::Client;
use dure_types::{
    Digest, Page, RunId,
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
    let query = EventQuery { subject, limit: Some(1000), ..EventQuery::default() };
    if !follow {
        let page = newest(&client, query, limit.unwrap_or(100) as usize).await?;
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
    let mut events = pin!(client.follow_events(query));
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

/// The API tells events from the first on; the newest are at its end.
async fn newest(client: &Client, mut query: EventQuery, most: usize) -> Result<Page<Event>, CliError> {
    let mut newest: VecDeque<Event> = VecDeque::new();
    loop {
        let page = client.list_events(&query).await?;
        let last = page.items.last().map(|event| event.sequence);
        newest.extend(page.items);
        newest.drain(..newest.len().saturating_sub(most));
        match (page.next, last) {
            (Some(_), Some(last)) => query.after = Some(last),
            _ => return Ok(Page { items: newest.into(), next: None }),
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
