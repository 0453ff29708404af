//! `dure show`: one thing, whatever it is.

use dure_types::Name;

use super::{dataset, environment, model, node, run_view, service};
use crate::{args, context::Context, exit::CliError, find, messages};

/// What `KIND/NAME` means.
#[derive(Debug, PartialEq, Eq)]
enum Thing<'a> {
    Run(&'a str),
    Model(&'a str),
    Service(&'a str),
    Dataset(&'a str),
    Environment(&'a str),
    Node(&'a str),
}

impl<'a> Thing<'a> {
    fn of(text: &'a str) -> Option<Self> {
        Some(match text.split_once('/') {
            None => Self::Run(text),
            Some(("run", _) | ("job", _)) => Self::Run(text),
            Some(("model", name)) => Self::Model(name),
            Some(("service", name)) => Self::Service(name),
            Some(("dataset", name)) => Self::Dataset(name),
            Some(("environment", name)) => Self::Environment(name),
            Some(("node", name)) => Self::Node(name),
            Some(_) => return None,
        })
    }
}

pub async fn run(context: &Context, arguments: args::Show) -> Result<(), CliError> {
    let text = arguments.thing.as_str();
    let thing = Thing::of(text)
        .ok_or_else(|| CliError::usage_next(messages::not_a_thing(text), messages::not_a_thing_next()))?;
    match thing {
        Thing::Run(text) => {
            let client = context.client()?;
            let run = find::run(&client, text).await?;
            run_view::show(context, &client, &run.id).await
        }
        Thing::Model(name) => model::show(context, name).await,
        Thing::Service(text) => service::show(context, &name(text)?).await,
        Thing::Dataset(name) => dataset::show(context, name).await,
        Thing::Environment(name) => environment::show(context, name).await,
        Thing::Node(name) => node::show(context, name).await,
    }
}

fn name(text: &str) -> Result<Name, CliError> {
    Name::new(text).map_err(|error| CliError::usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_a_run_unless_its_kind_is_said() {
        assert_eq!(Thing::of("7f3a"), Some(Thing::Run("7f3a")));
        assert_eq!(Thing::of("job/train-digits"), Some(Thing::Run("job/train-digits")));
        assert_eq!(Thing::of("model/digits@1"), Some(Thing::Model("digits@1")));
        assert_eq!(Thing::of("cluster/x"), None);
    }
}
