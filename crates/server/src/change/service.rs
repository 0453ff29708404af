//! A service: which version it gets, and whether that differs from the revision that it has.

use dure_plan::{price::Ask, why};
use dure_store::service::NewRevision;
use dure_types::{
    Code, Money, Reference,
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
            let mut placement = self.placement(&spec.name, RunKind::Replica, &ask).await?;
            let all = Ask {
                cpu_milli: ask.cpu_milli * u64::from(spec.replicas),
                memory_bytes: ask.memory_bytes.saturating_mul(u64::from(spec.replicas)),
                gpus: ask.gpus.saturating_mul(spec.replicas),
            };
            if let Some((detail, next)) = why::never_fits(&self.core.schedule(), &all) {
                let detail = format!("{}: {} replicas together: {detail}", spec.name, spec.replicas);
                return Err(ApiError::new(Code::NeverFits, detail).next(next));
            }
            placement.per_hour = Money::from_nanos(placement.per_hour.nanos() * i64::from(spec.replicas));
            step.change.placement = Some(placement);
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
    // What waits for the run that makes its model differs by that run; what is pinned, by the version.
    let same_run = current.waits_for.is_some() && current.waits_for == new.waits_for;
    let other_run = current.model.is_none() && new.model.is_none() && !same_run;
    if (current.model != new.model && !same_run) || other_run {
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

#[cfg(test)]
mod tests {
    use dure_types::{Cpu, Memory, Timestamp};

    use super::*;

    fn revision(model: Option<&str>, waits_for: Option<&str>) -> NewRevision {
        NewRevision {
            wanted: "digits@latest".to_owned(),
            model: model.map(str::to_owned),
            waits_for: waits_for.map(|run| run.repeat(20).parse().unwrap()),
            replicas: 1,
            cpu: Cpu::from_milli(1000),
            memory: Memory::from_bytes(1 << 29),
            gpu: 0,
        }
    }

    fn current(model: Option<&str>, waits_for: Option<&str>) -> Revision {
        let new = revision(model, waits_for);
        Revision {
            number: 1,
            wanted: new.wanted,
            model: new.model,
            waits_for: new.waits_for,
            replicas: new.replicas,
            cpu: new.cpu,
            memory: new.memory,
            gpu: new.gpu,
            created_by: "lee".to_owned(),
            created_at: Timestamp::default(),
        }
    }

    #[test]
    fn a_revision_differs_by_its_model_or_by_the_run_that_makes_it() {
        let cases = [
            // Pinned, and still what is meant.
            (current(Some("digits@1"), Some("a")), revision(Some("digits@1"), None), false),
            // A moved alias.
            (current(Some("digits@1"), None), revision(Some("digits@2"), None), true),
            // Its run goes on.
            (current(None, Some("a")), revision(None, Some("a")), false),
            // Its run failed, and another one makes the model now.
            (current(None, Some("a")), revision(None, Some("b")), true),
            // A new training of what it serves.
            (current(Some("digits@1"), Some("a")), revision(None, Some("b")), true),
        ];
        for (current, new, differs) in cases {
            assert_eq!(!differences(&current, &new).is_empty(), differs, "{current:?} {new:?}");
        }
    }
}
