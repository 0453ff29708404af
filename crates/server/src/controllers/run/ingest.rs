//! Takes in what a unit writes: the bytes into the run's log, the reports in it into the store.

use std::{sync::Arc, time::Duration};

use dure_store::MetricRow;
use dure_types::RunId;
use futures_util::StreamExt;

use super::{Controller, unit_id};
use crate::{
    core::Core,
    logs::{LineFilter, Writer},
};

/// A log that cannot be read or kept is tried again this often before it is given up.
const TRIES: u32 = 20;

impl Controller {
    /// Starts to follow a run's log, unless it is followed already or is known to be empty.
    pub(super) fn spawn_ingest(&mut self, run: &RunId) {
        let Some(active) = self.runs.get_mut(run) else { return };
        let empty = active.exit.as_ref().is_some_and(|exit| exit.log_bytes == 0);
        if active.ingest.is_some() || empty {
            return;
        }
        let attempt = active.row.attempt;
        let writer = self.core.logs.writer(run, attempt);
        let (core, run) = (Arc::clone(&self.core), run.clone());
        active.ingest = Some(tokio::spawn(async move { ingest(&core, &run, attempt, writer).await }));
    }
}

async fn ingest(core: &Core, run: &RunId, attempt: u32, mut writer: Writer) {
    // Reports that were taken in before a kill are read again: a report is known by its place in the log.
    let mut filter = LineFilter::default();
    let mut at = 0;
    while at < writer.length() {
        let Ok(bytes) = core.logs.read(run, attempt, at, 1 << 20) else { break };
        if bytes.is_empty() {
            break;
        }
        let reports = filter.feed(at, &bytes).reports;
        keep(core, run, attempt, reports).await;
        at += bytes.len() as u64;
    }
    for attempt_to_read in 0..TRIES {
        match follow(core, run, attempt, &mut writer, &mut filter).await {
            Ok(()) => break,
            Err(error) => tracing::warn!(%run, %error, "its log cannot be taken in; trying again"),
        }
        tokio::time::sleep(Duration::from_millis(50 << attempt_to_read.min(6))).await;
    }
    let end = writer.length();
    let last = filter.finish().reports.into_iter().map(|(_, report)| (end, report)).collect();
    keep(core, run, attempt, last).await;
}

async fn follow(
    core: &Core,
    run: &RunId,
    attempt: u32,
    writer: &mut Writer,
    filter: &mut LineFilter,
) -> std::io::Result<()> {
    let Some(unit) = unit_id(run, attempt) else { return Ok(()) };
    let mut stream = core.engine.logs(&unit, writer.length());
    while let Some(bytes) = stream.next().await {
        let bytes = bytes?;
        let offset = writer.length();
        writer.append(&bytes)?;
        keep(core, run, attempt, filter.feed(offset, &bytes).reports).await;
    }
    Ok(())
}

async fn keep(core: &Core, run: &RunId, attempt: u32, reports: Vec<(u64, dure_plan::metric::Report)>) {
    if reports.is_empty() {
        return;
    }
    let now = core.now();
    let rows: Vec<_> = reports
        .into_iter()
        .flat_map(|(offset, report)| {
            report.metrics.into_iter().map(move |(name, value)| (offset, report.step, name, value))
        })
        .filter(|(_, _, name, _)| !name.starts_with("dure."))
        .map(|(offset, step, name, value)| MetricRow { run: run.clone(), attempt, offset, name, value, step, at: now })
        .collect();
    let written = core.store.write(move |tx| Box::pin(async move { tx.insert_metrics(&rows).await })).await;
    if let Err(error) = written {
        tracing::warn!(%run, %error, "metrics cannot be kept");
    }
}
