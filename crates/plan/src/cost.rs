//! What was spent, by what, against the baseline of the same share always on.

use std::collections::BTreeMap;

use dure_types::{
    Money, Name, RunId, Timestamp,
    cost::{CostBy, CostLine, CostReport},
    run::RunKind,
};

use crate::price;

/// A stretch of time in which an attempt had its share of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    pub run: RunId,
    pub attempt: u32,
    pub project: Name,
    pub user: String,
    pub kind: RunKind,
    pub name: Name,
    pub service: Option<Name>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// Of its share.
    pub per_hour: Money,
}

pub const BASELINE: &str = "your hardware: the same share, always on since the group's first start";

#[derive(Default)]
struct Group<'a> {
    intervals: Vec<&'a Interval>,
}

/// The report over these intervals, those that go on counted until now.
pub fn report(intervals: &[Interval], by: CostBy, since: Option<Timestamp>, now: Timestamp) -> CostReport {
    let mut groups: BTreeMap<String, Group<'_>> = BTreeMap::new();
    for interval in intervals.iter().filter(|interval| since.is_none_or(|since| end(interval, now) > since)) {
        if let Some(key) = key(interval, by) {
            groups.entry(key).or_default().intervals.push(interval);
        }
    }
    let mut lines: Vec<_> = groups.into_iter().map(|(key, group)| line(key, &group, by, since, now)).collect();
    lines.sort_by(|a, b| (b.spent, &a.group).cmp(&(a.spent, &b.group)));
    CostReport {
        spent: lines.iter().map(|line| line.spent).sum(),
        baseline: lines.iter().map(|line| line.baseline).sum(),
        lines,
        baseline_name: BASELINE.to_owned(),
        rate_source: String::new(),
        assumed: false,
        at: now,
    }
}

fn key(interval: &Interval, by: CostBy) -> Option<String> {
    Some(match by {
        CostBy::Run => interval.run.to_string(),
        CostBy::Name => format!("{}/{}", interval.kind.as_str(), interval.name),
        CostBy::Service => interval.service.as_ref()?.to_string(),
        CostBy::User => interval.user.clone(),
        CostBy::Project => interval.project.to_string(),
        CostBy::Day => interval.started_at.to_string().chars().take(10).collect(),
    })
}

fn end(interval: &Interval, now: Timestamp) -> Timestamp {
    interval.ended_at.unwrap_or(now).max(interval.started_at)
}

fn line(group: String, of: &Group<'_>, by: CostBy, since: Option<Timestamp>, now: Timestamp) -> CostLine {
    let start = |interval: &Interval| since.map_or(interval.started_at, |since| interval.started_at.max(since));
    let length = |interval: &&Interval| end(interval, now).since(start(interval));
    let first = of.intervals.iter().map(|interval| start(interval)).min().unwrap_or(now);
    let mut runs: Vec<_> = of.intervals.iter().map(|interval| &interval.run).collect();
    runs.sort();
    runs.dedup();
    let newest = of.intervals.last();
    CostLine {
        group,
        name: newest.filter(|_| by == CostBy::Run).map(|interval| interval.name.to_string()),
        kind: newest.filter(|_| by == CostBy::Run).map(|interval| interval.kind.as_str().to_owned()),
        runs: runs.len() as u64,
        seconds: of.intervals.iter().map(length).map(|length| length.as_secs_f64()).sum(),
        spent: of.intervals.iter().map(|interval| price::cost(interval.per_hour, length(interval))).sum(),
        baseline: price::cost(peak_rate(&of.intervals, now), now.since(first)),
        running: of.intervals.iter().any(|interval| interval.ended_at.is_none()),
    }
}

/// The most that a group ever had at one moment: what would have to be always on.
fn peak_rate(intervals: &[&Interval], now: Timestamp) -> Money {
    let mut steps: Vec<(Timestamp, i64)> = Vec::with_capacity(intervals.len() * 2);
    for interval in intervals {
        steps.push((interval.started_at, interval.per_hour.nanos()));
        steps.push((end(interval, now), -interval.per_hour.nanos()));
    }
    // At one moment what ends comes before what starts.
    steps.sort();
    let mut level = 0_i64;
    let mut peak = 0_i64;
    for (_, step) in steps {
        level += step;
        peak = peak.max(level);
    }
    Money::from_nanos(peak)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const DOLLAR: i64 = 1_000_000_000;

    fn interval(run: u64, from: i64, to: Option<i64>, service: Option<&str>) -> Interval {
        Interval {
            run: format!("{run:020x}").parse().unwrap(),
            attempt: 1,
            project: Name::new("default").unwrap(),
            user: "lee".to_owned(),
            kind: if service.is_some() { RunKind::Replica } else { RunKind::Job },
            name: Name::new(service.unwrap_or("train")).unwrap(),
            service: service.map(|name| Name::new(name).unwrap()),
            started_at: Timestamp::from_micros(from * HOUR),
            ended_at: to.map(|to| Timestamp::from_micros(to * HOUR)),
            per_hour: Money::from_nanos(DOLLAR),
        }
    }

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_micros(hour * HOUR)
    }

    #[test]
    fn what_runs_is_counted_until_now_and_compared_with_always_on() {
        let intervals = [interval(1, 0, Some(1), Some("digits")), interval(2, 3, None, Some("digits"))];
        let report = report(&intervals, CostBy::Service, None, at(4));
        assert_eq!((report.lines[0].spent.nanos(), report.lines[0].baseline.nanos()), (2 * DOLLAR, 4 * DOLLAR));
        assert!(report.lines[0].running);
    }

    #[test]
    fn two_at_once_make_the_baseline_twice_as_large() {
        let intervals = [interval(1, 0, Some(2), Some("digits")), interval(2, 1, Some(2), Some("digits"))];
        assert_eq!(report(&intervals, CostBy::Service, None, at(2)).baseline.nanos(), 4 * DOLLAR);
        let one_after_the_other = [interval(1, 0, Some(1), Some("digits")), interval(2, 1, Some(2), Some("digits"))];
        assert_eq!(report(&one_after_the_other, CostBy::Service, None, at(2)).baseline.nanos(), 2 * DOLLAR);
    }

    #[test]
    fn since_cuts_an_interval_and_services_leave_jobs_out() {
        let intervals = [interval(1, 0, Some(4), None), interval(2, 0, Some(4), Some("digits"))];
        assert_eq!(report(&intervals, CostBy::Run, Some(at(3)), at(5)).spent.nanos(), 2 * DOLLAR);
        assert_eq!(report(&intervals, CostBy::Service, None, at(5)).lines.len(), 1);
        assert_eq!(report(&intervals, CostBy::Day, None, at(5)).lines[0].group, "1970-01-01");
    }
}
