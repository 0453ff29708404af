//! `dure plan`: what a file would change, where it would run, and what that costs.

use dure_types::{
    change::{Change, ChangeAction, ChangeSet, Placement},
    spec::Kind,
};

use crate::{
    args,
    context::Context,
    exit::CliError,
    hint, messages,
    output::{self, Cell, Table, format, style},
    progress::Progress,
};

pub async fn run(context: &Context, arguments: args::Plan) -> Result<(), CliError> {
    let loaded = super::apply::load_file(&arguments.file).await?;
    let client = context.client()?;
    let progress = Progress::new(context);
    let request = loaded.send(&client, &progress, arguments.rerun).await?;
    let planned = client.plan_changes(&request).await?;
    context.show(&planned, |planned| {
        let mut text = render(planned);
        if planned.is_empty() {
            text.push_str(&format!("{}\n", messages::nothing_to_change()));
        }
        text
    })?;
    if !planned.is_empty() {
        hint::print(context, [hint::apply(arguments.file.display())])?;
    }
    Ok(())
}

/// The list of changes, then where what runs would run.
pub fn render(planned: &ChangeSet) -> String {
    let width = output::width();
    let mut table = Table::bare(4);
    for change in &planned.changes {
        let (sign, style) = sign(change.action);
        table.row([
            Cell::styled(format!("  {sign} {}", change.kind.as_str()), style),
            Cell::from(change.name.as_str()),
            Cell::from(&change.summary),
            Cell::styled(change.differences.join("; "), style::DIM),
        ]);
    }
    let placed: Vec<(&Change, &Placement)> =
        planned.changes.iter().filter_map(|change| Some((change, change.placement.as_ref()?))).collect();
    let mut text = table.render(width);
    if !placed.is_empty() {
        text.push('\n');
        text.push_str(&placements(&placed, width));
    }
    text
}

fn sign(action: ChangeAction) -> (char, anstyle::Style) {
    match action {
        ChangeAction::Create => ('+', style::GOOD),
        ChangeAction::Update => ('~', style::WARN),
        ChangeAction::Retry => ('!', style::WARN),
        ChangeAction::Keep => ('=', style::DIM),
    }
}

fn placements(placed: &[(&Change, &Placement)], width: Option<usize>) -> String {
    let mut table = Table::bare(4);
    for (change, placement) in placed {
        let takes = match placement.seconds {
            Some(seconds) => messages::takes(format::seconds(seconds), placement.from_runs),
            None if change.kind == Kind::Job => messages::takes_unknown(),
            None => String::new(),
        };
        table.row([
            format!("  {}", change.name),
            placement.node.to_string(),
            messages::per_hour(format::per_hour(placement.per_hour), &placement.rate_note),
            takes,
        ]);
        table.row(["", "", &messages::why_here(&placement.why)]);
        if let Some(waits) = &placement.waits {
            table.row([Cell::default(), Cell::default(), Cell::styled(messages::would_wait(waits), style::WARN)]);
        }
    }
    table.render(width)
}

#[cfg(test)]
mod tests {
    use dure_types::{Money, Name};

    use super::*;

    #[test]
    fn a_plan_shows_what_where_how_much_and_why() {
        let name = |text| Name::new(text).unwrap();
        let change = |kind, action, summary: &str, placement| Change {
            kind,
            name: name("digits"),
            action,
            summary: summary.to_owned(),
            differences: vec!["model digits@1 -> digits@2".to_owned()],
            placement,
            version: None,
            run: None,
        };
        let placement = Placement {
            node: name("this-machine"),
            per_hour: Money::from_nanos(31_000_000),
            rate_note: "your hardware, assumed rate".to_owned(),
            why: "the only node that fits".to_owned(),
            seconds: Some(20.0),
            from_runs: 3,
            waits: None,
        };
        let planned = ChangeSet {
            changes: vec![
                change(Kind::Dataset, ChangeAction::Keep, "1,797 images, 213 KiB", None),
                change(Kind::Job, ChangeAction::Create, "1 CPU, 1Gi", Some(placement)),
            ],
        };
        let text = render(&planned);
        let plain = anstream::adapter::strip_str(&text).to_string();
        for part in [
            "  = dataset",
            "  + job",
            "1 CPU, 1Gi",
            "digits@1 -> digits@2",
            "this-machine",
            "$0.0310/h",
            "the only node that fits",
            "20 s",
        ] {
            assert!(plain.contains(part), "{part}:\n{plain}");
        }
    }
}
