//! Services: replicas kept, revisions rolled, traffic pointed at what is ready.
//!
//! What is to be done is decided by `dure_plan::replica`; here the state is gathered and the actions done.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dure_engine::Address;
use dure_gateway::{Replica as Route, Service as Served, Table};
use dure_plan::replica::{self, Action, Replica, Wanted};
use dure_store::{NewRun, RunRow, Scope, ServiceRow, StopRequest, StoreError, service::ServiceChange};
use dure_types::{
    Name, Reference, RunId,
    run::{Reason, ReasonCode, RunKind, RunState},
    service::{Revision, ServiceState},
    spec::{OutputKind, Retries},
};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{
    probe,
    run::{over, unit_id},
    submit::{stop_run, submit},
};
use crate::{
    core::Core,
    error::ApiError,
    serving,
    work::{Input, InputKind, Work},
};

const SWEEP: Duration = Duration::from_secs(30);
/// Between taking a replica out of the traffic and telling it to end: every worker of the gateway goes by the new
/// table from its next request on, and what it had sent by then is answered or with the replica.
const DRAIN: Duration = Duration::from_secs(1);

type Key = (Name, Name);

enum Message {
    /// A service or one of its replicas changed.
    Changed(Key),
    /// A run that may make some service's model is over.
    RunOver(RunId),
    Ready(Key, RunId, Address),
    /// Tokens, members or projects changed: the gateway has to know.
    Republish,
}

/// Tells the controller what happened. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    sender: mpsc::UnboundedSender<Message>,
    /// Replicas that answered, and where; for those who show them.
    ready: Ready,
}

type Ready = Arc<Mutex<HashMap<RunId, Address>>>;

pub struct Inbox(mpsc::UnboundedReceiver<Message>);

impl Services {
    pub fn channel() -> (Self, Inbox) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, ready: Ready::default() }, Inbox(receiver))
    }

    pub fn changed(&self, project: Name, service: Name) {
        let _ = self.sender.send(Message::Changed((project, service)));
    }

    pub fn run_over(&self, run: RunId) {
        let _ = self.sender.send(Message::RunOver(run));
    }

    pub fn is_ready(&self, run: &RunId) -> bool {
        self.ready().contains_key(run)
    }

    fn ready(&self) -> MutexGuard<'_, HashMap<RunId, Address>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn republish(&self) {
        let _ = self.sender.send(Message::Republish);
    }
}

struct Controller {
    core: Arc<Core>,
    was_ready: HashSet<RunId>,
    /// Replicas that get no more requests and are about to be told to end.
    draining: HashSet<RunId>,
    /// Replicas that are being asked whether they are ready.
    asked: HashMap<RunId, AbortHandle>,
    routes: HashMap<Key, Arc<Served>>,
    /// Runs that services wait for.
    pending: HashMap<RunId, HashSet<Key>>,
}

/// Runs until the control plane ends.
pub async fn run(core: Arc<Core>, mut inbox: Inbox) {
    let mut controller = Controller {
        core: Arc::clone(&core),
        was_ready: HashSet::new(),
        draining: HashSet::new(),
        asked: HashMap::new(),
        routes: HashMap::new(),
        pending: HashMap::new(),
    };
    controller.all().await;
    controller.publish();
    let mut ended = core.ended();
    let mut sweep = tokio::time::interval_at(tokio::time::Instant::now() + SWEEP, SWEEP);
    loop {
        let message = tokio::select! {
            message = inbox.0.recv() => message,
            _ = sweep.tick() => { controller.all().await; continue }
            () = over(&mut ended) => return,
        };
        match message {
            None => return,
            Some(Message::Changed(key)) => controller.reconcile(&key).await,
            Some(Message::RunOver(run)) => {
                for key in controller.pending.remove(&run).unwrap_or_default() {
                    controller.reconcile(&key).await;
                }
            }
            Some(Message::Ready(key, run, address)) => {
                controller.was_ready.insert(run.clone());
                core.services.ready().insert(run, address);
                controller.reconcile(&key).await;
            }
            Some(Message::Republish) => controller.publish(),
        }
    }
}

impl Controller {
    async fn all(&mut self) {
        match self.core.store.all_services().await {
            Ok(services) => {
                for service in services {
                    self.reconcile(&(service.project.clone(), service.name.clone())).await;
                }
            }
            Err(error) => tracing::warn!(%error, "services cannot be read"),
        }
    }

    async fn reconcile(&mut self, key: &Key) {
        if let Err(error) = self.try_reconcile(key).await {
            // What failed now is tried again: by the next event, or the sweep.
            tracing::warn!(service = %key.1, error = %error.0.detail, "a service cannot be looked after");
        }
    }

    async fn try_reconcile(&mut self, (project, name): &Key) -> Result<(), ApiError> {
        let key = (project.clone(), name.clone());
        let mut row = match self.core.store.service(project, name).await {
            Ok(row) => row,
            Err(StoreError::NotFound { .. }) => {
                self.routes.remove(&key);
                self.publish();
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let broken = self.pin(&mut row).await?;
        let replicas = self.core.store.replicas(project, name).await?;
        self.forget_ended(&replicas);
        let state = replica::Service {
            wanted: Wanted {
                revision: row.revision.number,
                replicas: row.revision.replicas,
                waits: row.revision.model.is_none().then(|| waits_for(&row)),
                broken,
            },
            serving: row.serving,
            state: row.state,
            replicas: replicas.iter().map(|run| self.replica(run)).collect(),
        };
        let actions = if self.core.is_draining() { Vec::new() } else { replica::decide(&state, self.core.now()) };
        // First what brings replicas up and moves traffic, then the traffic, and only then what ends replicas:
        // one that ends while requests still go to it loses them.
        let (ends, begins): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Stop { .. }));
        for action in begins {
            self.act(&mut row, action).await?;
        }
        for action in ends {
            if let Action::Stop { run } = action {
                self.drain(run);
            }
        }
        for run in replicas.iter().filter(|run| run.state == RunState::Running) {
            self.ask(&key, run).await;
        }
        self.route(&key, &row, &replicas);
        if row.state == ServiceState::Stopping && replicas.iter().all(|run| run.state.is_over()) {
            let (scope, name) = (self.scope_of(&row), name.clone());
            self.core.store.write(move |tx| Box::pin(async move { tx.delete_service(&scope, &name).await })).await?;
            self.routes.remove(&key);
            self.publish();
        }
        Ok(())
    }

    /// Pins a revision to the version that the run it waited for has made. Returns why that will never be.
    async fn pin(&mut self, row: &mut ServiceRow) -> Result<Option<Reason>, ApiError> {
        let (None, Some(run)) = (&row.revision.model, row.revision.waits_for.clone()) else { return Ok(None) };
        let made_by = self.core.store.run(&row.project, &run).await?;
        if !made_by.state.is_over() {
            self.pending.entry(run).or_default().insert((row.project.clone(), row.name.clone()));
            return Ok(None);
        }
        if made_by.state != RunState::Succeeded {
            let message = format!("{} did not make the model: dure logs {}", made_by.name, run.short());
            return Ok(Some(Reason::new(ReasonCode::InputFailed, message)));
        }
        let wanted = model_of(&row.revision)?;
        let outputs = self.core.store.outputs(&run).await?;
        let made = outputs.iter().find(|output| output.kind == OutputKind::Model && output.name == wanted);
        let Some(version) = made.and_then(|output| output.version) else {
            return Ok(Some(Reason::new(ReasonCode::InputFailed, format!("{} made no model {wanted}", made_by.name))));
        };
        let model = Reference::version(wanted, version).to_string();
        row.revision.model = Some(model.clone());
        let (project, name, number) = (row.project.clone(), row.name.clone(), row.revision.number);
        self.core
            .store
            .write(move |tx| Box::pin(async move { tx.pin_revision(&project, &name, number, &model).await }))
            .await?;
        Ok(None)
    }

    fn replica(&self, run: &RunRow) -> Replica {
        let revision = run.service.as_ref().map_or(0, |(_, revision)| *revision);
        Replica {
            run: run.id.clone(),
            revision,
            state: run.state,
            ready: run.state == RunState::Running && self.core.services.is_ready(&run.id),
            was_ready: self.was_ready.contains(&run.id),
            stopping: run.stop.is_some() || run.state == RunState::Stopping,
            ended_at: run.ended_at,
            reason: run.reason.clone(),
        }
    }

    fn forget_ended(&mut self, replicas: &[RunRow]) {
        for run in replicas.iter().filter(|run| run.state.is_over()) {
            self.core.services.ready().remove(&run.id);
            self.draining.remove(&run.id);
            if let Some(asking) = self.asked.remove(&run.id) {
                asking.abort();
            }
        }
    }

    /// Takes a replica out of the traffic now, and tells it to end a moment later.
    fn drain(&mut self, run: RunId) {
        if !self.draining.insert(run.clone()) {
            return;
        }
        let core = Arc::clone(&self.core);
        tokio::spawn(async move {
            tokio::time::sleep(DRAIN).await;
            let request = StopRequest { actor: "dure".to_owned(), code: ReasonCode::Replaced, at: core.now() };
            if let Err(error) = stop_run(&core, run.clone(), request).await {
                tracing::warn!(%run, error = %error.0.detail, "a replica cannot be told to end");
            }
        });
    }

    async fn act(&mut self, row: &mut ServiceRow, action: Action) -> Result<(), ApiError> {
        let now = self.core.now();
        match action {
            Action::Start { revision } => self.start(row, revision).await?,
            // Told to end by `drain`, when traffic has moved.
            Action::Stop { .. } => {}
            Action::Serve { revision } => {
                row.serving = Some(revision);
                self.write_state(row).await?;
            }
            Action::Become { state, reason } => {
                if state != row.state || reason != row.reason {
                    (row.state, row.reason) = (state, reason);
                    self.write_state(row).await?;
                }
            }
            Action::WakeAt(at) => {
                let services = self.core.services.clone();
                let (project, name) = (row.project.clone(), row.name.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(at.since(now)).await;
                    services.changed(project, name);
                });
            }
        }
        Ok(())
    }

    async fn write_state(&self, row: &ServiceRow) -> Result<(), ApiError> {
        let change =
            ServiceChange { state: row.state, reason: row.reason.clone(), serving: row.serving, at: self.core.now() };
        let (project, name) = (row.project.clone(), row.name.clone());
        Ok(self
            .core
            .store
            .write(move |tx| Box::pin(async move { tx.set_service_state(&project, &name, &change).await }))
            .await?)
    }

    async fn start(&mut self, row: &ServiceRow, revision: u32) -> Result<(), ApiError> {
        let (project, name) = (&row.project, &row.name);
        let wanted = self.core.store.revision(project, name, revision).await?;
        let Some(reference) = wanted.model.as_deref().and_then(|model| model.parse::<Reference>().ok()) else {
            return Ok(());
        };
        let model = self.core.store.resolve_model(project, &reference).await?;
        let input = Input {
            kind: InputKind::Model,
            at: model.name.clone(),
            name: model.name.clone(),
            version: model.version,
            manifest: model.manifest,
        };
        let work = Work::Replica { model: model.name, version: model.version };
        let environment = serving::input();
        let new = NewRun {
            id: RunId::random().map_err(ApiError::internal)?,
            scope: Scope {
                domain: row.domain.clone(),
                project: project.clone(),
                actor: wanted.created_by.clone(),
                at: self.core.now(),
            },
            kind: RunKind::Replica,
            name: name.clone(),
            spec: serde_json::to_value(work).map_err(ApiError::internal)?,
            identity: None,
            code: None,
            environment: Some(environment.digest()),
            inputs: serde_json::to_value([input]).map_err(ApiError::internal)?,
            datasets: Vec::new(),
            waits_for: Vec::new(),
            service: Some((name.clone(), revision)),
            cpu: wanted.cpu,
            memory: wanted.memory,
            gpu: wanted.gpu,
            timeout: None,
            // A replica that ends is followed by another one, not by another attempt.
            retries: Retries { lost: 0, failed: 0 },
        };
        submit(&self.core, vec![new], vec![(None, environment)]).await?;
        Ok(())
    }

    /// Asks a replica whether it is ready, once.
    async fn ask(&mut self, key: &Key, run: &RunRow) {
        if self.core.services.is_ready(&run.id) || self.asked.contains_key(&run.id) {
            return;
        }
        let Some(unit) = unit_id(&run.id, run.attempt) else { return };
        let Ok(Some(address)) = self.core.engine.address(&unit).await else { return };
        let (services, key, run) = (self.core.services.clone(), key.clone(), run.id.clone());
        let run_id = run.clone();
        let asking = tokio::spawn(async move {
            probe::until_ready(&address).await;
            let _ = services.sender.send(Message::Ready(key, run, address));
        });
        self.asked.insert(run_id, asking.abort_handle());
    }

    /// Where requests to the service go, as far as that changed.
    fn route(&mut self, key: &Key, row: &ServiceRow, replicas: &[RunRow]) {
        let known = self.core.services.ready().clone();
        let of_serving = |run: &&RunRow| run.service.as_ref().map(|(_, revision)| *revision) == row.serving;
        let ready = replicas
            .iter()
            .filter(of_serving)
            .filter(|run| run.state == RunState::Running && run.stop.is_none())
            .filter(|run| !self.draining.contains(&run.id))
            .filter_map(|run| known.get(&run.id).cloned().map(|address| (run, address)));
        let replicas: Vec<_> =
            ready.map(|(run, address)| Route { id: run.id.to_string(), address: gateway_address(&address) }).collect();
        let reason = row.reason.as_ref().map_or_else(|| row.state.as_str().to_owned(), |reason| reason.message.clone());
        let served = Served {
            not_ready_reason: replicas.is_empty().then_some(reason),
            revision: row.serving.unwrap_or_default().to_string(),
            replicas,
        };
        if self.routes.get(key).is_none_or(|before| **before != served) {
            self.routes.insert(key.clone(), Arc::new(served));
            self.publish();
        }
    }

    fn scope_of(&self, row: &ServiceRow) -> Scope {
        Scope {
            domain: row.domain.clone(),
            project: row.project.clone(),
            actor: "dure".to_owned(),
            at: self.core.now(),
        }
    }

    fn publish(&self) {
        let mut table = Table::default();
        table.tokens.extend(self.core.auth.gateway_callers());
        for ((project, service), served) in &self.routes {
            table.insert(project, service, Arc::clone(served));
        }
        self.core.routes.publish(table);
    }
}

fn gateway_address(address: &Address) -> dure_gateway::Address {
    match address {
        Address::Unix(path) => dure_gateway::Address::Unix(path.clone()),
        Address::Tcp(address) => dure_gateway::Address::Tcp(*address),
    }
}

fn waits_for(row: &ServiceRow) -> Reason {
    let run = row.revision.waits_for.as_ref().map(|run| format!(", which run {} makes", run.short()));
    Reason::new(ReasonCode::InputPending, format!("waits for {}{}", row.revision.wanted, run.unwrap_or_default()))
}

fn model_of(revision: &Revision) -> Result<Name, ApiError> {
    revision.wanted.parse::<Reference>().map(|wanted| wanted.name).map_err(ApiError::internal)
}
