//! `dure down`: ends everything, and says what that was.

use std::net::{Ipv4Addr, SocketAddr};

use dure_client::{Client, ClientError};
use dure_server::App;
use dure_types::change::Ended;

use super::up;
use crate::{args, context::Context, exit::CliError, hint, messages};

pub async fn run(context: &Context, arguments: args::Down) -> Result<(), CliError> {
    let ended = match context.client()?.shut_down().await {
        Err(ClientError::Unreachable { .. }) if is_here(context, &arguments)? => without(context, arguments).await?,
        ended => ended?,
    };
    context.show(&ended, render)?;
    hint::print(context, [hint::up()])?;
    Ok(())
}

/// Whether the control plane that does not answer is this machine's own, so that what it started may go on here.
fn is_here(context: &Context, arguments: &args::Down) -> Result<bool, CliError> {
    let url = context.target()?.url;
    let local = ["://127.", "://localhost", "://[::1]"].iter().any(|host| url.contains(host));
    Ok(local && dure_engine::process::keeper::is_alive(&up::data_dir(arguments.data_dir.clone())?.join("keeper")))
}

/// The control plane is gone but what it started goes on: it is started once more, to end that.
async fn without(context: &Context, arguments: args::Down) -> Result<Ended, CliError> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = up::local(up::data_dir(arguments.data_dir)?, listen, arguments.database_url)?;
    let app = App::start(config).await.map_err(|error| CliError::from(error.problem()))?;
    let target = context.target()?;
    let client = Client::new(&app.banner().url, &target.token, target.project)?;
    let (ended, ()) = tokio::join!(client.shut_down(), app.run(std::future::pending()));
    Ok(ended?)
}

fn render(ended: &Ended) -> String {
    let mut parts = Vec::new();
    if ended.runs > 0 {
        parts.push(messages::ended_runs(ended.runs));
    }
    parts.extend(ended.services.iter().map(|(name, replicas)| messages::ended_service(name, replicas)));
    if ended.keeper {
        parts.push(messages::ended_keeper());
    }
    parts.push(messages::ended_control_plane());
    format!("{}\n", messages::ended(parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_is_named() {
        let nothing = render(&Ended::default());
        assert_eq!(nothing, format!("{}\n", messages::ended(messages::ended_control_plane())));
        let text = render(&Ended { runs: 2, services: [("digits".to_owned(), 3)].into(), keeper: true });
        assert!(text.contains(&messages::ended_runs(2)) && text.contains("digits") && text.contains('3'), "{text}");
    }
}
