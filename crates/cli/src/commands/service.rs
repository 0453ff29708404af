//! `dure service`: list, show, delete.

use dure_types::{
    Name,
    service::{Replica, Service},
};

use super::done;
use crate::{
    args,
    context::Context,
    exit::CliError,
    hint, messages,
    output::{self, Cell, Table, View, format, style},
};

pub async fn run(context: &Context, command: args::Service) -> Result<(), CliError> {
    match command {
        args::Service::List => list(context).await,
        args::Service::Show { service } => show(context, &service).await,
        args::Service::Delete { service } => delete(context, &service).await,
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let page = context.client()?.list_services().await?;
    context.show(&page, |page| {
        if page.items.is_empty() {
            return format!("{}\n", messages::none_found("services"));
        }
        let mut table = Table::new([
            messages::h_name(),
            messages::h_state(),
            messages::h_model(),
            messages::h_replicas(),
            messages::h_requests(),
            messages::h_cost(),
            messages::h_url(),
        ])
        .right([3, 4, 5]);
        for service in &page.items {
            table.row([
                Cell::from(service.name.as_str()),
                Cell::styled(service.state.as_str(), style::service_state(service.state)),
                Cell::from(service.revision.model.as_deref().unwrap_or(&service.revision.wanted)),
                Cell::from(ready_of(service)),
                Cell::from(format::count(service.requests)),
                Cell::from(service.cost.to_string()),
                Cell::from(service.path.as_str()),
            ]);
        }
        table.render(output::width())
    })?;
    Ok(())
}

fn ready_of(service: &Service) -> String {
    let ready = service.replicas.iter().filter(|replica| replica.ready).count();
    format!("{ready}/{}", service.revision.replicas)
}

pub async fn show(context: &Context, name: &Name) -> Result<(), CliError> {
    let client = context.client()?;
    let service = client.get_service(name).await?;
    context.show(&service, |service| render(service, client.url(), output::width()))?;
    hint::print(context, [hint::predict(name), hint::service_delete(name)])?;
    Ok(())
}

fn render(service: &Service, url: &str, width: Option<usize>) -> String {
    let revision = &service.revision;
    let mut view = View::new();
    view.row(messages::h_name(), service.name.as_str());
    view.row(messages::h_state(), service.state.as_str());
    view.maybe(messages::h_reason(), service.reason.as_ref().map(|reason| &reason.message));
    view.row(messages::h_url(), format!("{url}{}", service.path));
    let model = match &revision.model {
        Some(model) if *model != revision.wanted => format!("{model} ({})", revision.wanted),
        _ => revision.wanted.clone(),
    };
    view.row(messages::h_model(), model);
    view.row(messages::h_revision(), revision.number.to_string());
    view.maybe(
        messages::h_serving(),
        service.serving.filter(|serving| *serving != revision.number).map(|serving| serving.to_string()),
    );
    view.row(messages::h_resources(), format!("{} CPU, {}", revision.cpu, revision.memory));
    view.row(messages::h_requests(), format::count(service.requests));
    view.row(messages::h_cost(), service.cost.to_string());
    view.row(messages::h_created(), format!("{} ({})", format::moment(service.created_at), service.created_by));
    view.lines(format!("{} {}", messages::h_replicas(), ready_of(service)), service.replicas.iter().map(replica));
    view.render(width)
}

fn replica(replica: &Replica) -> String {
    let mut line = format!("run {}   {}", replica.run.short(), replica.state.as_str());
    if replica.ready {
        line.push_str(&format!(", {}", messages::h_ready()));
    }
    if let Some(reason) = &replica.reason {
        line.push_str(&format!("   {}", reason.message));
    }
    line
}

pub async fn delete(context: &Context, name: &Name) -> Result<(), CliError> {
    context.client()?.delete_service(name).await?;
    done(context, &messages::deleted(format!("service/{name}")))?;
    hint::print(context, [hint::ps()])?;
    Ok(())
}
