//! `dure node`: list, and one for `dure show node/NAME`.

use dure_types::{Cpu, node::Node};

use crate::{
    args,
    context::Context,
    exit::CliError,
    hint, messages,
    output::{self, Table, View, format},
};

pub async fn run(context: &Context, command: args::Node) -> Result<(), CliError> {
    match command {
        args::Node::List => list(context).await,
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let page = context.client()?.list_nodes().await?;
    context.show(&page, |page| {
        let mut table = Table::new([
            messages::h_name(),
            messages::h_engine(),
            messages::h_cpu(),
            messages::h_memory(),
            messages::h_gpu(),
            messages::h_rate(),
            messages::h_limits(),
            messages::h_ready(),
        ])
        .right([2, 3, 4, 5]);
        for node in &page.items {
            table.row([
                node.name.to_string(),
                node.engine.clone(),
                cpu(node),
                memory(node),
                gpu(node),
                format::per_hour(node.rate.per_hour),
                node.limits.clone(),
                if node.ready { messages::yes() } else { messages::no() },
            ]);
        }
        table.render(output::width())
    })?;
    Ok(())
}

/// `1/8`: used of what there is.
fn cpu(node: &Node) -> String {
    format!("{}/{}", Cpu::from_milli(node.used_cpu_milli), Cpu::from_milli(node.facts.cpu_milli))
}

fn memory(node: &Node) -> String {
    format!("{} / {}", format::bytes(node.used_memory_bytes), format::bytes(node.facts.memory_bytes))
}

fn gpu(node: &Node) -> String {
    format!("{}/{}", node.used_gpus, node.facts.gpus.len())
}

pub async fn show(context: &Context, name: &str) -> Result<(), CliError> {
    let nodes = context.client()?.list_nodes().await?.items;
    let node = nodes
        .into_iter()
        .find(|node| node.name.as_str() == name)
        .ok_or_else(|| CliError::not_found(messages::no_node(name), hint::node_list()))?;
    context.show(&node, |node| {
        let mut view = View::new();
        view.row(messages::h_name(), node.name.as_str());
        view.row(messages::h_engine(), &node.engine);
        view.row(messages::h_cpu(), cpu(node));
        view.row(messages::h_memory(), memory(node));
        view.lines(
            messages::h_gpu(),
            node.facts
                .gpus
                .iter()
                .map(|gpu| format!("{}   {}   {}", gpu.id, gpu.model, format::bytes(gpu.memory_bytes))),
        );
        view.row(
            messages::h_rate(),
            format!(
                "{}   {}",
                format::per_hour(node.rate.per_hour),
                super::cost::rates(&node.rate.source, node.rate.assumed)
            ),
        );
        view.row(messages::h_limits(), &node.limits);
        view.row(messages::h_ready(), if node.ready { messages::yes() } else { messages::no() });
        view.row(messages::h_at(), format::moment(node.seen_at));
        view.render(output::width())
    })?;
    hint::print(context, [hint::ps()])?;
    Ok(())
}
