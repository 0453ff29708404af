//! `dure cost`: what was spent, and what it is compared with.

use dure_types::{
    Money, RunId, Timestamp,
    cost::{CostBy, CostLine, CostQuery, CostReport},
    time::Span,
};

use crate::{
    args,
    context::Context,
    exit::CliError,
    hint, messages,
    output::{self, Cell, Table, format, style},
};

pub async fn run(context: &Context, arguments: args::Cost) -> Result<(), CliError> {
    let since = arguments.since.as_deref().map(since).transpose()?;
    let client = context.client()?;
    // Of all projects that one may read, unless one was asked for.
    let query = CostQuery { by: arguments.by, since, project: context.project().cloned() };
    let report = client.get_cost(&query).await?;
    context.show(&report, |report| render(report, arguments.by, output::width()))?;
    let next = if arguments.by == CostBy::Name { hint::ps_all() } else { hint::cost_by_name() };
    hint::print(context, [next])?;
    Ok(())
}

fn since(text: &str) -> Result<Timestamp, CliError> {
    if let Ok(span) = text.parse::<Span>() {
        let micros = i64::try_from(span.duration().as_micros()).unwrap_or(i64::MAX);
        return Ok(Timestamp::from_micros(format::now().micros().saturating_sub(micros)));
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    text.parse::<jiff::civil::Date>()
        .ok()
        .and_then(|date| date.to_zoned_datetime(jiff::tz::TimeZone::system()).ok())
        .map(|midnight| Timestamp::from_micros(midnight.timestamp().as_microsecond()))
        .ok_or_else(|| CliError::usage(messages::bad_since(text)))
}

fn render(report: &CostReport, by: CostBy, width: Option<usize>) -> String {
    if report.lines.is_empty() {
        return format!("{}\n", messages::nothing_spent());
    }
    let with_names = by == CostBy::Run;
    let group = match by {
        CostBy::Run => messages::h_run(),
        CostBy::User => messages::h_user(),
        CostBy::Project => messages::h_project(),
        CostBy::Day => messages::h_at(),
        CostBy::Name | CostBy::Service => messages::h_name(),
    };
    let mut table = Table::new([
        group,
        if with_names { messages::h_name() } else { String::new() },
        messages::h_kind(),
        messages::h_runs(),
        messages::h_took(),
        messages::h_spent(),
        messages::h_always_on(),
        messages::h_saved(),
        String::new(),
    ])
    .right([3, 4, 5, 6, 7]);
    for line in &report.lines {
        table.row([
            Cell::from(group_name(line)),
            Cell::from(line.name.as_deref().filter(|_| with_names).unwrap_or_default()),
            Cell::from(line.kind.as_deref().unwrap_or_default()),
            Cell::from(format::count(line.runs)),
            Cell::from(format::seconds(line.seconds)),
            Cell::from(line.spent.to_string()),
            Cell::from(line.baseline.to_string()),
            Cell::from(saved(line.spent, line.baseline)),
            Cell::styled(if line.running { messages::still_running() } else { String::new() }, style::BUSY),
        ]);
    }
    let heavy = |text: String| Cell::styled(text, style::HEADING);
    table.row([
        heavy(messages::h_total()),
        Cell::default(),
        Cell::default(),
        heavy(format::count(report.lines.iter().map(|line| line.runs).sum())),
        heavy(format::seconds(report.lines.iter().map(|line| line.seconds).sum())),
        heavy(report.spent.to_string()),
        heavy(report.baseline.to_string()),
        heavy(saved(report.spent, report.baseline)),
    ]);
    let rates = messages::rates(rates(&report.rate_source, report.assumed));
    format!("{}{}\n{rates}\n", table.render(width), messages::baseline(format::clean(&report.baseline_name)))
}

/// Where rates come from. That they are an assumption is said even where the source does not say it.
pub fn rates(source: &str, assumed: bool) -> String {
    let source = format::clean(source);
    if assumed && !source.contains("assumed") { format!("{source} ({})", messages::assumed()) } else { source }
}

fn group_name(line: &CostLine) -> String {
    match line.group.parse::<RunId>() {
        Ok(id) => id.short().to_owned(),
        Err(_) => line.group.clone(),
    }
}

/// Nothing where more was spent than the baseline, or there is none: no saving is made up.
fn saved(spent: Money, baseline: Money) -> String {
    if baseline.nanos() <= 0 || spent > baseline {
        return String::new();
    }
    let share = 1.0 - spent.nanos() as f64 / baseline.nanos() as f64;
    messages::saved_share((share * 100.0).floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_length_or_a_date() {
        assert!(since("30d").unwrap() < format::now());
        assert_eq!(since("2026-11-24T00:00:00Z").unwrap().to_string(), "2026-11-24T00:00:00.000000Z");
        assert!(since("2026-11-24").is_ok());
        assert!(since("yesterday").is_err());
    }

    #[test]
    fn a_saving_is_never_made_up() {
        let money = Money::from_nanos;
        assert_eq!(saved(money(5), money(100)), messages::saved_share(95));
        assert_eq!(saved(money(100), money(100)), messages::saved_share(0));
        assert_eq!(saved(money(101), money(100)), "");
        assert_eq!(saved(money(1), money(0)), "");
    }

    #[test]
    fn the_report_names_its_baseline_and_its_rates() {
        let report = CostReport {
            lines: vec![CostLine {
                group: "7f3a0000000000000000".to_owned(),
                name: Some("train-digits".to_owned()),
                kind: Some("job".to_owned()),
                runs: 1,
                seconds: 11.0,
                spent: Money::from_nanos(100_000),
                baseline: Money::from_nanos(400_000),
                running: false,
            }],
            spent: Money::from_nanos(100_000),
            baseline: Money::from_nanos(400_000),
            baseline_name: "the same share, always on".to_owned(),
            rate_source: "table".to_owned(),
            assumed: true,
            at: Timestamp::default(),
        };
        let text = render(&report, CostBy::Run, None);
        let plain = anstream::adapter::strip_str(&text).to_string();
        for part in ["7f3a00", "train-digits", "$0.000100", "75", "the same share, always on", &messages::assumed()] {
            assert!(plain.contains(part), "{part}: {plain}");
        }
    }
}
