//! The lines that a followed run is shown with.

use std::collections::BTreeMap;

use dure_client::Client;
use dure_types::{
    Selector,
    model::ModelVersion,
    run::{MetricPoint, RunDetail, RunOutput},
    spec::OutputKind,
};

use crate::{
    exit::CliError,
    messages,
    output::{format, sparkline::sparkline, table::cut},
};

/// Characters of a line of blocks.
const BLOCKS: usize = 12;
/// More metrics than this are not drawn; `dure show` has them all.
const MOST: usize = 4;
/// Points kept of one metric; every second is dropped when there are twice as many.
const POINTS: usize = 2048;

/// Metrics by name, in the order of their first points.
#[derive(Debug, Default)]
pub struct Series {
    order: Vec<String>,
    values: BTreeMap<String, Vec<f64>>,
    step: Option<i64>,
    attempt: u32,
}

impl Series {
    pub fn of(points: impl IntoIterator<Item = MetricPoint>) -> Self {
        let mut series = Self::default();
        points.into_iter().for_each(|point| series.add(point));
        series
    }

    /// The last values, where the points that led to them are not all here.
    pub fn end_with(&mut self, last: &BTreeMap<String, f64>) {
        for (name, value) in last {
            if let Some(values) = self.values.get_mut(name)
                && values.last() != Some(value)
            {
                values.push(*value);
            }
        }
    }

    pub fn add(&mut self, point: MetricPoint) {
        if point.attempt > self.attempt {
            // Another attempt begins anew.
            *self = Self { attempt: point.attempt, ..Self::default() };
        } else if point.attempt < self.attempt {
            return;
        }
        self.step = point.step.or(self.step);
        let values = self.values.entry(point.name.clone()).or_insert_with(|| {
            self.order.push(point.name);
            Vec::new()
        });
        values.push(point.value);
        if values.len() >= 2 * POINTS {
            let newest = values.len() - 1;
            let mut index = 0;
            values.retain(|_| {
                index += 1;
                index % 2 == 0 || index - 1 == newest
            });
        }
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// `accuracy ▁▃▅▆▇▇████ 0.962   epoch 20/20   11 s   $0.0001`, the facts on the first line.
    pub fn render(&self, planned: Option<(&'static str, i64)>, facts: &[String]) -> Vec<String> {
        let shown = &self.order[..self.order.len().min(MOST)];
        let widest = shown.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(24);
        let mut lines = Vec::new();
        for (index, name) in shown.iter().enumerate() {
            let values = &self.values[name];
            let newest = values.last().copied().unwrap_or(f64::NAN);
            let name = cut(&format::clean(name), widest);
            let blocks = sparkline(values, BLOCKS);
            let mut line = format!("{name:widest$} {blocks} {}", format::number(newest));
            if index == 0 {
                let step = match (self.step, planned) {
                    (Some(step), Some((word, planned))) => Some(format!("{word} {step}/{planned}")),
                    (Some(step), None) => Some(format!("step {step}")),
                    (None, _) => None,
                };
                for fact in step.iter().chain(facts) {
                    line.push_str("   ");
                    line.push_str(fact);
                }
            }
            lines.push(line);
        }
        lines
    }
}

/// How many steps the parameters announce, where they do by the usual name.
pub fn planned_steps(detail: &RunDetail) -> Option<(&'static str, i64)> {
    let parameters = &detail.spec.as_ref()?.parameters;
    [("epochs", "epoch"), ("steps", "step"), ("max_steps", "step")]
        .into_iter()
        .find_map(|(name, word)| Some((word, parameters.get(name)?.as_i64().filter(|steps| *steps > 0)?)))
}

/// Text that comes in pieces, as lines that are harmless to print.
#[derive(Debug, Default)]
pub struct Lines {
    rest: String,
}

/// A line is broken here at the latest.
const LONGEST: usize = 16 << 10;

impl Lines {
    /// The lines that are complete now.
    pub fn add(&mut self, text: &str) -> Vec<String> {
        self.rest.push_str(text);
        let mut lines = Vec::new();
        while let Some(end) = self.rest.find('\n') {
            let line: String = self.rest.drain(..=end).collect();
            lines.push(harmless(&line));
        }
        if self.rest.len() > LONGEST {
            lines.push(harmless(&std::mem::take(&mut self.rest)));
        }
        lines
    }

    /// What stands after the last line break.
    pub fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.rest);
        (!rest.is_empty()).then(|| harmless(&rest))
    }
}

/// Without escape sequences, and of a progress bar that draws over itself only the last state.
fn harmless(line: &str) -> String {
    let line = line.trim_end_matches(['\n', '\r']);
    let last = line.rsplit('\r').find(|part| !part.trim().is_empty()).unwrap_or(line);
    format::clean_lines(&anstream::adapter::strip_str(last).to_string())
}

/// Each line no wider than the terminal, so that what is drawn anew covers what was there.
pub fn fit(text: &str, width: Option<usize>) -> String {
    let width = width.unwrap_or(120).saturating_sub(3);
    text.lines().map(|line| cut(line, width)).collect::<Vec<_>>().join("\n")
}

/// A line for each thing that a run made.
pub async fn outputs(client: &Client, detail: &RunDetail) -> Result<Vec<String>, CliError> {
    let mut lines = Vec::new();
    for output in &detail.outputs {
        lines.push(match (output.kind, output.version) {
            (OutputKind::Model, Some(version)) => {
                model(&client.get_model_version(&output.name, &Selector::Version(version)).await?, detail)
            }
            _ => messages::output_line(output.kind.as_str(), named(output), format::bytes(output.bytes)),
        });
    }
    Ok(lines)
}

pub fn named(output: &RunOutput) -> String {
    match output.version {
        Some(version) => format!("{}@{version}", output.name),
        None => output.name.to_string(),
    }
}

/// `model digits@1   ONNX, input float_input FP32 [n,64]   accuracy 0.962   from run 7f3a, dataset digits@1`
fn model(version: &ModelVersion, detail: &RunDetail) -> String {
    let inputs: Vec<_> = version.signature.inputs.iter().map(|input| input.describe()).collect();
    let reference = format!("{}@{}", version.name, version.version);
    let mut line = messages::model_line(reference, version.format.to_uppercase(), inputs.join(", "));
    for (name, value) in version.metrics.iter().take(2) {
        line.push_str(&format!("   {name} {}", format::number(*value)));
    }
    let mut from = vec![messages::from_run(detail.run.id.short())];
    from.extend(version.lineage.datasets.iter().map(|dataset| format!("dataset {dataset}")));
    format!("{line}   {}", from.join(", "))
}

#[cfg(test)]
mod tests {
    use dure_types::Timestamp;

    use super::*;

    fn point(name: &str, value: f64, step: i64, attempt: u32) -> MetricPoint {
        MetricPoint { name: name.to_owned(), value, step: Some(step), attempt, at: Timestamp::default() }
    }

    #[test]
    fn metrics_are_lines_of_blocks_with_the_facts_on_the_first() {
        let series = Series::of((1..=20).flat_map(|step| {
            [
                point("accuracy", f64::from(step as i32) / 20.0, step, 1),
                point("loss", 1.0 / f64::from(step as i32), step, 1),
            ]
        }));
        let lines = series.render(Some(("epoch", 20)), &["11 s".to_owned(), "$0.0001".to_owned()]);
        assert_eq!(lines[0], "accuracy ▁▂▂▃▄▄▅▅▆▇▇█ 1   epoch 20/20   11 s   $0.0001");
        assert!(lines[1].starts_with("loss     █"), "{}", lines[1]);
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn another_attempt_begins_anew() {
        let series = Series::of([point("a", 1.0, 9, 1), point("a", 5.0, 1, 2), point("a", 7.0, 2, 1)]);
        assert_eq!(series.render(None, &[]), ["a ▄ 5   step 1"]);
    }

    #[test]
    fn a_long_series_keeps_its_newest_value_and_stays_small() {
        let series = Series::of((0..100_000).map(|step| point("a", step as f64, step, 1)));
        assert!(series.values["a"].len() <= 2 * POINTS);
        assert!(series.render(None, &[])[0].contains("█ 99999 "));
    }

    #[test]
    fn lines_are_whole_and_harmless() {
        let mut lines = Lines::default();
        assert_eq!(lines.add("one\ntw"), ["one"]);
        assert_eq!(lines.add("o\r\n\u{1b}[31mred\u{1b}[0m\n 10%\r 99%\n"), ["two", "red", " 99%"]);
        assert_eq!(lines.rest(), None);
        lines.add("tail");
        assert_eq!(lines.rest().as_deref(), Some("tail"));
        assert_eq!(lines.add(&"x".repeat(LONGEST + 1)).len(), 1);
    }
}
