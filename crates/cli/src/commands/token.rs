//! `dure token`: list, create, revoke. A secret is shown when it is made and never again.

use dure_types::user::CreateToken;

use super::done;
use crate::{
    args,
    context::Context,
    exit::CliError,
    messages,
    output::{self, Table, format},
};

pub async fn run(context: &Context, command: args::Token) -> Result<(), CliError> {
    let client = context.client()?;
    match command {
        args::Token::List => {
            let page = client.list_tokens().await?;
            context.show(&page, |page| {
                let mut table =
                    Table::new([messages::h_token(), messages::h_user(), messages::h_title(), messages::h_created()]);
                for token in &page.items {
                    table.row([
                        token.id.as_str(),
                        token.user.as_str(),
                        &token.title,
                        &format::moment(token.created_at),
                    ]);
                }
                table.render(output::width())
            })?;
        }
        args::Token::Create { user, title } => {
            let created = client.create_token(&CreateToken { user, title }).await?;
            // The secret alone on standard output, so that `DURE_TOKEN=$(dure token create)` holds nothing else.
            context.show(&created, |created| format!("{}\n", created.secret))?;
            if !context.quiet() {
                let token = &created.token;
                anstream::eprintln!("{} ({}, {})", messages::token_once(), token.id, token.user);
            }
        }
        args::Token::Revoke { id } => {
            client.revoke_token(&id).await?;
            done(context, &messages::revoked(&id))?;
        }
    }
    Ok(())
}
