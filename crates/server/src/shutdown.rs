//! The end of everything: what runs is told to end and waited for, then the keeper goes.

use std::{collections::BTreeMap, sync::Arc};

use dure_store::{RunRow, StopRequest};
use dure_types::{
    change::Ended,
    run::{ReasonCode, RunKind},
};

use crate::{
    controllers::submit::stop_run,
    core::Core,
    error::{ApiError, ApiResult},
};

/// Ends all runs and replicas, then the keeper. Services keep their place: they come back with the next start.
pub async fn everything(core: &Arc<Core>, actor: &str) -> ApiResult<Ended> {
    core.drain();
    let mut ended = Ended { runs: 0, services: BTreeMap::new(), keeper: false };
    let mut events = core.store.subscribe();
    let mut first = true;
    loop {
        events.mark_unchanged();
        let active: Vec<RunRow> = core.store.active_runs().await?;
        for row in &active {
            if first {
                match (&row.service, row.kind) {
                    (Some((service, _)), RunKind::Replica) => {
                        *ended.services.entry(service.to_string()).or_default() += 1
                    }
                    _ => ended.runs += 1,
                }
            }
            if row.stop.is_none() {
                let request = StopRequest { actor: actor.to_owned(), code: ReasonCode::ShutDown, at: core.now() };
                stop_run(core, row.id.clone(), request).await?;
            }
        }
        first = false;
        if active.is_empty() {
            break;
        }
        if events.changed().await.is_err() {
            return Err(ApiError::internal("the store was closed"));
        }
    }
    core.engine.shutdown().await.map_err(ApiError::internal)?;
    ended.keeper = true;
    Ok(ended)
}
