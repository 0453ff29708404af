//! A service: which version it gets, and whether that differs from the revision that it has.

use dure_plan::{price::Ask, why};
use dure_store::service::NewRevision;
use dure_types::{
    Code, Reference,
    change::ChangeAction,
    run::RunKind,
    service::Revision,
    spec::{Kind, ServiceSpec},
};

use super::{
    Act, Step,
    view::{View, change, found},
};
use crate::error::{ApiError, ApiResult};

impl View<'_> {
    pub async fn service(&mut self, spec: &ServiceSpec) -> ApiResult<Step> {
        if !(1..=100).contains(&spec.replicas) {
            return Err(ApiError::new(Code::SpecValue, format!("service {}: replicas is from 1 to 100", spec.name)));
        }
        let maker = self.makers.get(&spec.model.name).filter(|_| spec.model.selector.is_latest()).cloned();
        let model = match &maker {
            Some(_) => None,
            None => Some(self.resolve_model(&spec.model).await?),
        };
        let revision = NewRevision {
            wanted: spec.model.to_string(),
            model: model.clone(),
            waits_for: maker.as_ref().map(|(run, _)| run.clone()),
            replicas: spec.replicas,
            cpu: spec.resources.cpu,
            memory: spec.resources.memory,
            gpu: spec.resources.gpu,
        };
        let current = found(self.core.store.service(&self.scope.project, &spec.name).await)?;
        let differences = current.as_ref().map(|current| differences(&current.revision, &revision)).unwrap_or_default();
        let action = match &current {
            None => ChangeAction::Create,
            Some(_) if differences.is_empty() => ChangeAction::Keep,
            Some(_) => ChangeAction::Update,
        };
        let ask = Ask {
            cpu_milli: spec.resources.cpu.milli(),
            memory_bytes: spec.resources.memory.bytes(),
            gpus: spec.resources.gpu,
        };
        let of = model.unwrap_or_else(|| spec.model.to_string());
        let after = maker.map(|(_, job)| format!(", after {job}")).unwrap_or_default();
        let plural = if spec.replicas == 1 { "replica" } else { "replicas" };
        let summary = format!("{} {plural} of {of}{after}, {} each", spec.replicas, why::describe(&ask));
        let version = current.as_ref().map(|current| current.revision.number);
        let mut step = Step {
            change: change(Kind::Service, &spec.name, action, summary, differences, version),
            act: Act::Nothing,
        };
        if action != ChangeAction::Keep {
            step.change.placement = Some(self.placement(&spec.name, RunKind::Replica, &ask).await?);
            step.act = Act::Service { name: spec.name.clone(), revision };
        }
        Ok(step)
    }

    async fn resolve_model(&self, reference: &Reference) -> ApiResult<String> {
        match found(self.core.store.resolve_model(&self.scope.project, reference).await)? {
            Some(model) => Ok(Reference::version(model.name, model.version).to_string()),
            None => Err(super::no_such(self, "model", &reference.name, reference).await),
        }
    }
}

/// What of the revision that there is would be another.
fn differences(current: &Revision, new: &NewRevision) -> Vec<String> {
    let mut differences = Vec::new();
    let model = |model: &Option<String>, waits: bool, wanted: &str| match model {
        Some(model) => model.clone(),
        None if waits => format!("{wanted} (being made)"),
        None => wanted.to_owned(),
    };
    let same_run = current.waits_for.is_some() && current.waits_for == new.waits_for;
    if current.model != new.model && !same_run {
        differences.push(format!(
            "model: {} -> {}",
            model(&current.model, current.waits_for.is_some(), &current.wanted),
            model(&new.model, new.waits_for.is_some(), &new.wanted)
        ));
    } else if current.wanted != new.wanted {
        differences.push(format!("model: {} -> {}", current.wanted, new.wanted));
    }
    let mut differ = |what: &str, before: String, after: String| {
        if before != after {
            differences.push(format!("{what}: {before} -> {after}"));
        }
    };
    differ("replicas", current.replicas.to_string(), new.replicas.to_string());
    differ("cpu", current.cpu.to_string(), new.cpu.to_string());
    differ("memory", current.memory.to_string(), new.memory.to_string());
    differ("gpu", current.gpu.to_string(), new.gpu.to_string());
    differences
}
