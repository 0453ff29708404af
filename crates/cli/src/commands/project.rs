//! `dure project`: list, create, and its members.

use dure_types::user::{CreateProject, Role, SetMembership};

use super::done;
use crate::{
    args,
    context::Context,
    exit::CliError,
    hint, messages,
    output::{self, Table, format},
};

pub async fn run(context: &Context, command: args::Project) -> Result<(), CliError> {
    let client = context.client()?;
    match command {
        args::Project::List => {
            let page = client.list_projects().await?;
            context.show(&page, |page| {
                let mut table = Table::new([messages::h_name(), messages::h_by(), messages::h_created()]);
                for project in &page.items {
                    table.row([project.name.as_str(), &project.created_by, &format::moment(project.created_at)]);
                }
                table.render(output::width())
            })?;
        }
        args::Project::Create { name } => {
            let project = client.create_project(&CreateProject { name }).await?;
            context.show(&project, |project| format!("{}\n", messages::made(format!("project {}", project.name))))?;
        }
        args::Project::Members => {
            let page = client.list_members().await?;
            context.show(&page, |page| {
                let mut table = Table::new([messages::h_user(), messages::h_role()]);
                for member in &page.items {
                    table.row([member.user.as_str(), member.role.as_str()]);
                }
                table.render(output::width())
            })?;
        }
        args::Project::Add { user, role } => add(context, &client, &user, role).await?,
        args::Project::Remove { user } => {
            client.remove_member(&user).await?;
            done(context, &messages::member_removed(&user, client.project()))?;
        }
    }
    Ok(())
}

async fn add(
    context: &Context,
    client: &dure_client::Client,
    user: &dure_types::Name,
    role: Role,
) -> Result<(), CliError> {
    let member = client.set_member(user, &SetMembership { role }).await?;
    context.show(&member, |member| {
        format!("{}\n", messages::member_set(&member.user, member.role.as_str(), &member.project))
    })?;
    hint::print(context, [hint::token_create(user)])?;
    Ok(())
}
