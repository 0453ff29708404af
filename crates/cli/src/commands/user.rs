//! `dure user`: list and create.

use dure_types::user::CreateUser;

use crate::{
    args,
    context::Context,
    exit::CliError,
    hint, messages,
    output::{self, Table, format},
};

pub async fn run(context: &Context, command: args::User) -> Result<(), CliError> {
    let client = context.client()?;
    match command {
        args::User::List => {
            let page = client.list_users().await?;
            context.show(&page, |page| {
                let mut table = Table::new([messages::h_name(), messages::h_role(), messages::h_created()]);
                for user in &page.items {
                    table.row([
                        user.name.as_str(),
                        if user.owner { "owner" } else { "" },
                        &format::moment(user.created_at),
                    ]);
                }
                table.render(output::width())
            })?;
        }
        args::User::Create { name } => {
            let user = client.create_user(&CreateUser { name }).await?;
            context.show(&user, |user| format!("{}\n", messages::made(format!("user {}", user.name))))?;
            hint::print(context, [hint::project_add(&user.name), hint::token_create(&user.name)])?;
        }
    }
    Ok(())
}
