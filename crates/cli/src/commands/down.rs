//! `dure down`: ends everything, and says what that was.

use dure_types::change::Ended;

use crate::{args, context::Context, exit::CliError, hint, messages};

pub async fn run(context: &Context, _arguments: args::Down) -> Result<(), CliError> {
    let client = context.client()?;
    let ended = client.shut_down().await?;
    context.show(&ended, render)?;
    hint::print(context, [hint::up()])?;
    Ok(())
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
