//! After a start: what was going on is found again, not started again.

use std::collections::HashSet;

use dure_engine::UnitState;
use dure_types::run::RunState;

use super::{After, Controller, run_of};

impl Controller {
    /// Takes up every run that is not over, then looks at what the engine has of them.
    pub(super) async fn recover(&mut self) {
        let rows = loop {
            match self.core.store.active_runs().await {
                Ok(rows) => break rows,
                Err(error) => tracing::error!(%error, "runs cannot be read; trying again"),
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        };
        let mut on_node = Vec::new();
        for row in rows {
            if row.state == RunState::Queued {
                self.admit(row).await;
                continue;
            }
            let run = row.id.clone();
            let attempts = self.core.store.run_attempts(&run).await.unwrap_or_default();
            let number = row.attempt;
            let Some(mut active) = super::Active::new(row) else { continue };
            if let Some(attempt) = attempts.iter().find(|attempt| attempt.number == number) {
                active.started_at = attempt.started_at;
            }
            // As it was when the attempt started, whatever the rate is now.
            active.per_hour = self.core.store.attempt_rate(&run, number).await.ok().flatten().unwrap_or_default();
            if let Some(placed) = active.placed(active.started_at) {
                self.core.schedule().place(run.clone(), placed);
            }
            self.runs.insert(run.clone(), active);
            on_node.push(run);
        }
        let units = self.core.engine.list().await.unwrap_or_default();
        let mut there = HashSet::new();
        for status in &units {
            let Some((run, attempt)) = run_of(&status.id) else { continue };
            if self.runs.get(&run).is_some_and(|active| active.row.attempt == attempt) {
                there.insert(run);
            } else {
                self.remove_unknown(&status.id);
            }
        }
        for run in on_node {
            let Some(active) = self.runs.get(&run) else { continue };
            match active.row.state {
                // It was decided and written, but perhaps not begun: to ensure it again does no harm.
                RunState::Preparing if !there.contains(&run) => self.after_commit.push(After::Start(run)),
                RunState::Stopping if there.contains(&run) => self.after_commit.push(After::Stop(run)),
                RunState::Running => self.after_commit.push(After::Follow(run)),
                _ => {}
            }
        }
        for status in units {
            if let (UnitState::Ended(exit), Some((run, _))) = (status.state, run_of(&status.id)) {
                self.ended(&run, exit);
            }
        }
        let starting: HashSet<_> = self
            .runs
            .iter()
            .filter(|(_, active)| active.row.state == RunState::Preparing)
            .map(|(run, _)| run.clone())
            .collect();
        there.extend(starting);
        self.lost(&there);
    }
}
