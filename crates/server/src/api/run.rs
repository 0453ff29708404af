//! Runs: asked for, listed, shown, explained, stopped.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use dure_plan::why;
use dure_store::{RunRow, StopRequest};
use dure_types::{
    Code, Cpu, Memory, Money, Name, Page, RunId,
    change::JobDocument,
    id::is_run_prefix,
    run::{Holder, Reason, ReasonCode, Run, RunDetail, RunQuery, RunState, Why},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::extract::{Json, Path, Query};
use super::{InProject, zip};
use crate::{
    change::{self, View},
    controllers::submit::{stop_run, submit},
    core::Core,
    error::{ApiError, ApiResult},
    work::{Input, Work},
};

pub fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new()
        .routes(routes!(list_runs, create_run))
        .routes(routes!(get_run))
        .routes(routes!(stop_run_of))
        .routes(routes!(explain_run))
        .routes(routes!(download_output))
}

/// Runs, the newest first
#[utoipa::path(
    get, path = "/projects/{project}/runs", operation_id = "list_runs", tag = "run",
    params(("project" = String, Path), RunQuery), responses((status = 200, body = Page<Run>)),
)]
async fn list_runs(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Query(query): Query<RunQuery>,
) -> ApiResult<Json<Page<Run>>> {
    if let Some(prefix) = &query.id
        && !is_run_prefix(prefix)
    {
        return Err(not_an_id(prefix));
    }
    let page = core.store.list_runs(&project, &query).await?;
    let ids: Vec<_> = page.items.iter().map(|row| row.id.clone()).collect();
    let mut metrics = core.store.last_metrics(&ids).await?;
    let items = page.items.into_iter().map(|row| {
        let metrics = metrics.remove(&row.id).unwrap_or_default();
        run_of(&core, row, metrics)
    });
    Ok(Json(Page { items: items.collect(), next: page.next }))
}

/// A row as the API tells it; what it costs is counted until now while it goes on.
pub(super) fn run_of(core: &Core, row: RunRow, metrics: BTreeMap<String, f64>) -> Run {
    let running = !row.state.is_over() && row.started_at.is_some() && row.state != RunState::Queued;
    let since = row.attempt_started_at.filter(|_| running);
    let ask = dure_plan::price::Ask { cpu_milli: row.cpu.milli(), memory_bytes: row.memory.bytes(), gpus: row.gpu };
    let cost_now = since.map_or_else(Money::default, |since| {
        let per_hour = dure_plan::price::share_rate(core.node.rate.per_hour, &core.node.facts, &ask);
        dure_plan::price::cost(per_hour, core.now().since(since))
    });
    // Known only to the scheduler: it changes with everything else that runs, so it is not written.
    let waits_for_room = row.state == RunState::Queued && core.schedule().waiting(&row.id).is_some();
    let room = waits_for_room.then(|| Reason::new(ReasonCode::Resources, format!("waits for {}", why::describe(&ask))));
    Run {
        id: row.id,
        name: row.name,
        kind: row.kind,
        project: row.project,
        created_by: row.created_by,
        state: row.state,
        reason: row.reason.or(room),
        cpu: row.cpu,
        memory: row.memory,
        gpu: row.gpu,
        created_at: row.created_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        node: row.node,
        attempt: row.attempt,
        cost: row.cost + cost_now,
        metrics: metrics.into_iter().filter(|(name, _)| !name.starts_with("dure.")).collect(),
    }
}

fn not_an_id(text: &str) -> ApiError {
    let text: String = text.chars().take(40).collect();
    ApiError::new(Code::NotFound, format!("`{text}` is not the beginning of a run's id (4 to 20 hexadecimal digits)"))
        .next("dure ps --all")
}

/// The one run whose id begins like this.
pub(super) async fn find(core: &Core, project: &Name, prefix: &str) -> ApiResult<RunRow> {
    if !is_run_prefix(prefix) {
        return Err(not_an_id(prefix));
    }
    let mut found = core.store.find_runs_by_prefix(project, prefix, 5).await?;
    match found.len() {
        0 => {
            Err(ApiError::new(Code::NotFound, format!("there is no run `{prefix}` in this project"))
                .next("dure ps --all"))
        }
        1 => Ok(found.remove(0)),
        _ => {
            let ids: Vec<_> = found.iter().map(|row| format!("{} ({})", row.id, row.name)).collect();
            Err(ApiError::new(Code::Ambiguous, format!("several runs begin with `{prefix}`: {}", ids.join(", ")))
                .next("write more of the id"))
        }
    }
}

/// Start a job that stands in no file
#[utoipa::path(
    post, path = "/projects/{project}/runs", operation_id = "create_run", tag = "run",
    params(("project" = String, Path)),
    request_body(content = Object, description = "spec: a job (see the schema Spec); code: the digest of a manifest; environment: the content of an inline environment"),
    responses((status = 201, body = Run)),
)]
async fn create_run(
    State(core): State<Arc<Core>>,
    InProject(caller, project): InProject,
    Json(document): Json<JobDocument>,
) -> ApiResult<(StatusCode, Json<Run>)> {
    let scope = change::scope(&core, &caller, &project);
    let view = View::new(&core, &scope, true);
    let (new, environment) = change::new_run(&view, &document).await?;
    let ask = dure_plan::price::Ask { cpu_milli: new.cpu.milli(), memory_bytes: new.memory.bytes(), gpus: new.gpu };
    if let Some((detail, next)) = why::never_fits(&core.schedule(), &ask) {
        return Err(ApiError::new(Code::NeverFits, detail).next(next));
    }
    let id = new.id.clone();
    let needs = environment.map(|input| (None, input)).into_iter().collect();
    let rows = submit(&core, vec![new], needs).await?;
    let row = rows.into_iter().find(|row| row.id == id).ok_or_else(|| ApiError::internal("the run is not there"))?;
    Ok((StatusCode::CREATED, Json(run_of(&core, row, BTreeMap::new()))))
}

/// Everything about a run
#[utoipa::path(
    get, path = "/projects/{project}/runs/{run}", operation_id = "get_run", tag = "run",
    params(("project" = String, Path), ("run" = String, Path, description = "an id or a unique beginning of one")),
    responses((status = 200, body = RunDetail)),
)]
async fn get_run(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, prefix)): Path<(String, String)>,
) -> ApiResult<Json<RunDetail>> {
    let row = find(&core, &project, &prefix).await?;
    let attempts = core.store.run_attempts(&row.id).await?;
    let outputs = core.store.outputs(&row.id).await?;
    let metrics = core.store.last_metrics(std::slice::from_ref(&row.id)).await?.remove(&row.id).unwrap_or_default();
    let spec = match serde_json::from_value(row.spec.clone()) {
        Ok(Work::Job(spec)) => Some(*spec),
        _ => None,
    };
    let inputs: Vec<Input> = serde_json::from_value(row.inputs.clone()).unwrap_or_default();
    Ok(Json(RunDetail {
        spec,
        code: row.code.clone(),
        environment: row.environment.clone(),
        inputs: inputs.iter().map(Input::reference).collect(),
        attempts,
        outputs,
        run: run_of(&core, row, metrics),
    }))
}

/// Stop a run
#[utoipa::path(
    post, path = "/projects/{project}/runs/{run}/stop", operation_id = "stop_run", tag = "run",
    params(("project" = String, Path), ("run" = String, Path)),
    responses((status = 200, body = Run)),
)]
async fn stop_run_of(
    State(core): State<Arc<Core>>,
    InProject(caller, project): InProject,
    Path((_, prefix)): Path<(String, String)>,
) -> ApiResult<Json<Run>> {
    let row = find(&core, &project, &prefix).await?;
    if row.state.is_over() {
        return Ok(Json(run_of(&core, row, BTreeMap::new())));
    }
    let request = StopRequest { actor: caller.user.to_string(), code: ReasonCode::StoppedByUser, at: core.now() };
    let row = stop_run(&core, row.id, request).await?;
    Ok(Json(run_of(&core, row, BTreeMap::new())))
}

/// Why does it wait, or what became of it?
#[utoipa::path(
    get, path = "/projects/{project}/runs/{run}/why", operation_id = "explain_run", tag = "run",
    params(("project" = String, Path), ("run" = String, Path)),
    responses((status = 200, body = Why)),
)]
async fn explain_run(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, prefix)): Path<(String, String)>,
) -> ApiResult<Json<Why>> {
    let row = find(&core, &project, &prefix).await?;
    let explanation = why::explain(&core.schedule(), &row.id);
    let reason = row.reason.as_ref().map(|reason| reason.message.clone());
    let mut answer = Why {
        summary: reason.unwrap_or_else(|| row.state.as_str().to_owned()),
        run: row.id.clone(),
        state: row.state,
        held_by: Vec::new(),
        place: None,
        waits_for: waits_for(&core, &row).await?,
        starts_by: None,
        sooner: None,
    };
    let Some(explanation) = explanation else { return Ok(Json(answer)) };
    answer.summary = explanation.summary;
    answer.place = Some(explanation.place);
    answer.starts_by = explanation.starts_by;
    answer.sooner = explanation.sooner;
    for held in explanation.held_by {
        // Of other projects' runs one learns that they are there and how large, not what they are.
        let Ok(holder) = core.store.run(&project, &held.run).await else { continue };
        answer.held_by.push(Holder {
            run: held.run,
            name: holder.name,
            created_by: holder.created_by,
            cpu: Cpu::from_milli(held.ask.cpu_milli),
            memory: Memory::from_bytes(held.ask.memory_bytes),
            gpu: held.ask.gpus,
            ends_by: held.ends_by,
        });
    }
    Ok(Json(answer))
}

/// The build that a run waits for.
async fn waits_for(core: &Core, row: &RunRow) -> ApiResult<Option<RunId>> {
    let building = row.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::EnvironmentBuilding);
    let Some(digest) = row.environment.as_ref().filter(|_| building && row.state == RunState::Queued) else {
        return Ok(None);
    };
    Ok(core.store.environment(&row.project, digest.as_str()).await?.build)
}

/// What a run kept, as a zip
#[utoipa::path(
    get, path = "/projects/{project}/runs/{run}/outputs/{name}", operation_id = "download_output", tag = "run",
    params(("project" = String, Path), ("run" = String, Path), ("name" = String, Path)),
    responses((status = 200, content_type = "application/zip", body = Vec<u8>)),
)]
async fn download_output(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, prefix, name)): Path<(String, String, String)>,
) -> ApiResult<Response> {
    let row = find(&core, &project, &prefix).await?;
    let outputs = core.store.outputs(&row.id).await?;
    let Some(output) = outputs.into_iter().find(|output| output.name.as_str() == name) else {
        return Err(ApiError::new(Code::NotFound, format!("run {} kept nothing called `{name}`", row.id.short()))
            .next(format!("dure show {}", row.id.short())));
    };
    let manifest = core.store.manifest(&project, &output.manifest).await?;
    Ok(zip::answer(&core, &format!("{name}-{}", row.id.short()), &manifest))
}

/// An answer that browsers save under a name.
pub(super) fn saved_as(name: &str, kind: &'static str, body: axum::body::Body) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    ([(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, disposition)], body).into_response()
}
