//! `dure logs`: what a program printed, as it printed it, and nothing else.

use std::pin::pin;

use dure_client::LogEvent;
use dure_types::run::LogQuery;
use futures_util::StreamExt as _;

use crate::{
    args,
    context::Context,
    exit::{CliError, Exit},
    find, hint, messages, output,
};

pub async fn run(context: &Context, arguments: args::Logs) -> Result<(), CliError> {
    let client = context.client()?;
    let run = find::run(&client, &arguments.run).await?;
    let query = LogQuery { raw: arguments.raw, attempt: arguments.attempt, ..LogQuery::default() };
    if !arguments.follow {
        let mut log = pin!(client.get_logs(run.id.as_str(), &query).await?);
        while let Some(bytes) = log.next().await {
            output::raw(&bytes?)?;
        }
        return Ok(());
    }
    let mut log = pin!(client.follow_logs(run.id.as_str(), query));
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            event = log.next() => match event.transpose()? {
                Some(LogEvent::Text { text, .. }) => output::raw(text.as_bytes())?,
                Some(LogEvent::End(_)) | None => return Ok(()),
            },
            _ = &mut interrupt => {
                anstream::eprintln!("\n{}", messages::detached(hint::logs_follow(run.id.short())));
                return Err(CliError::Silent(Exit::Interrupted));
            }
        }
    }
}
