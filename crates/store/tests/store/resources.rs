//! Datasets, models, environments, services, users and what content a project may name.

use std::collections::BTreeMap;

use dure_store::{
    NewRun, NodeRow, Store, StoreError, Transition, Tx,
    environment::EnvironmentChange,
    model::NewModelVersion,
    service::{NewRevision, ServiceChange},
    user::NewToken,
};
use dure_types::{
    Cpu, Digest, FileEntry, Manifest, Memory, Money, Name,
    dataset::DatasetQuery,
    environment::{EnvironmentInput, EnvironmentState, Package},
    model::{Lineage, Signature},
    name::Reference,
    node::{NodeFacts, NodeRate},
    page::PageQuery,
    run::{Reason, ReasonCode, RunState},
    service::ServiceState,
    user::Role,
};
use futures_util::future::BoxFuture;

use crate::{at, insert, name, new_run, on_both, scope};

on_both!(
    the_same_files_again_make_no_new_dataset_version,
    a_dataset_is_not_deleted_while_something_names_it,
    datasets_are_searched_and_paged_by_name,
    a_model_version_keeps_where_it_came_from,
    aliases_follow_versions_that_exist,
    a_project_names_only_content_that_it_has,
    an_environments_name_points_at_its_newest_content,
    revisions_of_a_service_are_never_numbered_twice,
    tokens_open_what_their_user_is_a_member_of,
    nodes_are_kept_as_they_were_last_seen,
);

async fn write<T: Send + 'static>(
    store: &Store,
    change: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    store.write(change).await
}

async fn version(store: &Store, project: &'static str, dataset: &'static str, content: &'static [u8]) -> (u32, bool) {
    write(store, move |tx| {
        Box::pin(async move {
            tx.create_dataset_version(&scope(project), &name(dataset), &Digest::of(content), 1, content.len() as u64)
                .await
        })
    })
    .await
    .unwrap()
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

async fn the_same_files_again_make_no_new_dataset_version(store: Store) {
    assert_eq!(version(&store, "vision", "digits", b"one").await, (1, true));
    assert_eq!(version(&store, "vision", "digits", b"one").await, (1, false));
    assert_eq!(version(&store, "vision", "digits", b"three").await, (2, true));
    assert_eq!(version(&store, "vision", "digits", b"one").await, (3, true));
    assert_eq!(version(&store, "speech", "digits", b"one").await, (1, true));
    let vision = name("vision");
    let dataset = store.dataset(&vision, &name("digits")).await.unwrap();
    assert_eq!((dataset.latest, dataset.bytes, dataset.created_by.as_str()), (3, 3, "lee"));
    assert_eq!(store.resolve_dataset(&vision, &reference("digits@2")).await.unwrap().bytes, 5);
    assert_eq!(store.resolve_dataset(&vision, &reference("digits")).await.unwrap().version, 3);
    for missing in ["digits@4", "digits@production", "letters"] {
        let outcome = store.resolve_dataset(&vision, &reference(missing)).await;
        assert!(matches!(outcome, Err(StoreError::NotFound { .. })), "{missing}");
    }
    let first = PageQuery { cursor: None, limit: Some(2) };
    let page = store.dataset_versions(&vision, &name("digits"), &first).await.unwrap();
    assert_eq!(page.items.iter().map(|each| each.version).collect::<Vec<_>>(), [3, 2]);
    let page = store.dataset_versions(&vision, &name("digits"), &PageQuery { cursor: page.next, limit: Some(2) }).await;
    assert_eq!(page.unwrap().items.len(), 1);
}

async fn delete(store: &Store, dataset: &'static str) -> Result<(), StoreError> {
    write(store, move |tx| Box::pin(async move { tx.delete_dataset(&scope("vision"), &name(dataset)).await })).await
}

async fn rename(store: &Store, from: &'static str, to: &'static str) -> Result<Name, StoreError> {
    write(store, move |tx| {
        Box::pin(async move { Ok(tx.rename_dataset(&scope("vision"), &name(from), &name(to)).await?.name) })
    })
    .await
}

async fn a_dataset_is_not_deleted_while_something_names_it(store: Store) {
    version(&store, "vision", "digits", b"one").await;
    version(&store, "vision", "letters", b"two").await;
    let run = NewRun { datasets: vec![(name("digits"), 1), (name("digits"), 1)], ..new_run("vision") };
    let id = insert(&store, &run).await;
    let unknown = NewRun { datasets: vec![(name("digits"), 2)], ..new_run("vision") };
    let outcome = write(&store, move |tx| Box::pin(async move { tx.insert_runs(&[unknown]).await })).await;
    assert!(matches!(outcome, Err(StoreError::NotFound { .. })), "{outcome:?}");

    assert!(matches!(delete(&store, "digits").await, Err(StoreError::InUse { by }) if by.contains(id.as_str())));
    assert!(matches!(rename(&store, "digits", "letters").await, Err(StoreError::Exists { .. })));
    // Another name does not hide what names it.
    assert_eq!(rename(&store, "digits", "numbers").await.unwrap(), name("numbers"));
    assert!(matches!(delete(&store, "numbers").await, Err(StoreError::InUse { .. })));
    let end = Transition {
        run: id,
        to: RunState::Succeeded,
        reason: None,
        at: at(1),
        actor: "dure".to_owned(),
        node: None,
        attempt: dure_store::AttemptStep::None,
    };
    write(&store, move |tx| Box::pin(async move { tx.transition(&[end]).await })).await.unwrap();

    let made = NewModelVersion {
        lineage: Lineage { datasets: vec!["numbers@1".to_owned()], ..Lineage::default() },
        ..model(b"onnx")
    };
    write(&store, move |tx| Box::pin(async move { tx.create_model_version(&scope("vision"), &made).await }))
        .await
        .unwrap();
    assert!(matches!(delete(&store, "numbers").await, Err(StoreError::InUse { by }) if by == "model digits@1"));
    assert_eq!(rename(&store, "numbers", "digits").await.unwrap(), name("digits"));
    let found = store.resolve_model(&name("vision"), &reference("digits")).await.unwrap();
    assert_eq!(found.lineage.datasets, ["digits@1"]);
    assert_eq!(store.models_from_dataset(&name("vision"), &name("digits")).await.unwrap(), [reference("digits@1")]);

    delete(&store, "letters").await.unwrap();
    assert!(matches!(delete(&store, "letters").await, Err(StoreError::NotFound { .. })));
    assert_eq!(version(&store, "vision", "letters", b"two").await, (1, true));
}

async fn datasets_are_searched_and_paged_by_name(store: Store) {
    for dataset in ["a-1", "b-1", "c-1", "c-2", "d"] {
        version(&store, "vision", dataset, b"x").await;
    }
    let list = async |search: Option<&str>| {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let query = DatasetQuery { search: search.map(str::to_owned), cursor, limit: Some(2) };
            let page = store.list_datasets(&name("vision"), &query).await.unwrap();
            found.extend(page.items.into_iter().map(|dataset| dataset.name.to_string()));
            cursor = page.next;
            if cursor.is_none() {
                return found;
            }
        }
    };
    assert_eq!(list(None).await, ["a-1", "b-1", "c-1", "c-2", "d"]);
    assert_eq!(list(Some("-1")).await, ["a-1", "b-1", "c-1"]);
    assert_eq!(list(Some("C-")).await, ["c-1", "c-2"]);
    for none in ["%", "_", "\\", "c_1", "'"] {
        assert!(list(Some(none)).await.is_empty(), "{none}");
    }
}

fn model(content: &'static [u8]) -> NewModelVersion {
    NewModelVersion {
        name: name("digits"),
        manifest: Digest::of(content),
        size: content.len() as u64,
        format: "onnx".to_owned(),
        signature: Signature::default(),
        lineage: Lineage::default(),
        metrics: BTreeMap::from([("loss".to_owned(), f64::NAN), ("accuracy".to_owned(), 0.1 + 0.2)]),
    }
}

async fn register(store: &Store, new: NewModelVersion) -> u32 {
    write(store, move |tx| Box::pin(async move { tx.create_model_version(&scope("vision"), &new).await }))
        .await
        .unwrap()
}

async fn a_model_version_keeps_where_it_came_from(store: Store) {
    version(&store, "vision", "digits", b"one").await;
    let run = insert(&store, &new_run("vision")).await;
    let lineage = Lineage {
        run: Some(run.clone()),
        job: Some(name("train")),
        code: Some(Digest::of(b"code")),
        environment: Some(Digest::of(b"environment")),
        datasets: vec!["digits@1".to_owned()],
    };
    let made = NewModelVersion { lineage: lineage.clone(), ..model(b"a") };
    assert_eq!(register(&store, made.clone()).await, 1);
    // Registered by hand, and what the run made said once more, as after a crash.
    assert_eq!(register(&store, model(b"a")).await, 2);
    assert_eq!(register(&store, model(b"a")).await, 2);
    assert_eq!(register(&store, made).await, 1);
    let vision = name("vision");
    let found = store.resolve_model(&vision, &reference("digits@1")).await.unwrap();
    assert_eq!((found.lineage, found.aliases), (lineage, vec![]));
    assert!(found.metrics["loss"].is_nan() && found.metrics["accuracy"] == 0.1 + 0.2);
    let by_hand = store.resolve_model(&vision, &reference("digits")).await.unwrap();
    assert_eq!((by_hand.version, by_hand.lineage, by_hand.aliases), (2, Lineage::default(), vec!["latest".to_owned()]));
    assert_eq!(store.models_from_run(&vision, &run).await.unwrap(), [reference("digits@1")]);
    let page = PageQuery { cursor: None, limit: Some(1) };
    let versions = store.model_versions(&vision, &name("digits"), &page).await.unwrap();
    assert_eq!((versions.items[0].version, versions.next.as_deref()), (2, Some("2")));
    assert!(matches!(store.model(&name("speech"), &name("digits")).await, Err(StoreError::NotFound { .. })));
}

async fn aliases_follow_versions_that_exist(store: Store) {
    register(&store, model(b"a")).await;
    register(&store, model(b"b")).await;
    let alias = async |alias: &'static str, version: u32| {
        write(&store, move |tx| {
            Box::pin(async move { tx.set_alias(&scope("vision"), &name("digits"), &name(alias), version).await })
        })
        .await
    };
    alias("production", 2).await.unwrap();
    assert_eq!(alias("production", 1).await.unwrap().aliases, BTreeMap::from([("production".to_owned(), 1)]));
    assert!(matches!(alias("production", 3).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(alias("latest", 1).await, Err(StoreError::Invalid(_))));
    assert!(matches!(alias("2", 1).await, Err(StoreError::Invalid(_))));
    let found = store.resolve_model(&name("vision"), &reference("digits@production")).await.unwrap();
    assert_eq!((found.version, found.aliases), (1, vec!["production".to_owned()]));
    let models = store.list_models(&name("vision"), Some("dig"), &PageQuery::default()).await.unwrap();
    assert_eq!(models.items[0].latest, 2);
}

async fn a_project_names_only_content_that_it_has(store: Store) {
    let (has, lacks) = (Digest::of(b"has"), Digest::of(b"lacks"));
    let grant = |project: &'static str, digest: &Digest, size: u64| {
        let digest = digest.clone();
        store.write(move |tx| Box::pin(async move { tx.grant_blobs(&scope(project), &[(digest, size)]).await }))
    };
    grant("vision", &has, 3).await.unwrap();
    grant("vision", &has, 3).await.unwrap();
    grant("speech", &lacks, 5).await.unwrap();
    let asked = [lacks.clone(), has.clone(), lacks.clone()];
    assert_eq!(store.missing(&name("vision"), &asked).await.unwrap(), std::slice::from_ref(&lacks));
    assert_eq!(store.missing(&name("speech"), &asked).await.unwrap(), std::slice::from_ref(&has));
    let record = async |files: Vec<(&str, &Digest, u64)>| {
        let files = files
            .into_iter()
            .map(|(path, digest, size)| FileEntry {
                path: path.to_owned(),
                digest: digest.clone(),
                size,
                executable: false,
            })
            .collect();
        let manifest = Manifest { files };
        write(&store, move |tx| Box::pin(async move { tx.record_manifest(&scope("vision"), &manifest).await })).await
    };
    let stolen = record(vec![("a", &has, 3), ("b", &lacks, 5)]).await;
    assert!(matches!(stolen, Err(StoreError::BlobsMissing(missing)) if missing == [lacks.clone()]));
    assert!(matches!(record(vec![("a", &has, 4)]).await, Err(StoreError::Invalid(_))));
    assert!(matches!(record(vec![("../a", &has, 3)]).await, Err(StoreError::Invalid(_))));
    let digest = record(vec![("b", &has, 3), ("a", &has, 3)]).await.unwrap();
    assert_eq!(record(vec![("a", &has, 3), ("b", &has, 3)]).await.unwrap(), digest);
    let manifest = store.manifest(&name("vision"), &digest).await.unwrap();
    assert_eq!((manifest.digest(), manifest.files.len()), (digest.clone(), 2));
    assert!(matches!(store.manifest(&name("speech"), &digest).await, Err(StoreError::NotFound { .. })));
}

async fn an_environments_name_points_at_its_newest_content(store: Store) {
    let input = |package: &str| EnvironmentInput { packages: vec![package.to_owned()], ..EnvironmentInput::default() };
    let declare = async |named: Option<&'static str>, package: &str| {
        let input = input(package);
        let digest = input.digest();
        let declared = digest.clone();
        let changed = write(&store, move |tx| {
            Box::pin(async move {
                tx.declare_environment(&scope("vision"), named.map(name).as_ref(), &declared, &input).await
            })
        })
        .await
        .unwrap();
        (digest, changed)
    };
    let (old, changed) = declare(Some("sklearn"), "scikit-learn==1.8").await;
    assert!(changed);
    assert!(!declare(Some("sklearn"), "scikit-learn==1.8").await.1);
    let (inline, _) = declare(None, "numpy").await;
    let (new, changed) = declare(Some("sklearn"), "scikit-learn==1.9").await;
    assert!(changed);
    let vision = name("vision");
    assert_eq!(store.environment(&vision, "sklearn").await.unwrap().digest, new);
    assert_eq!(store.environment(&vision, old.as_str()).await.unwrap().name, None);
    assert!(matches!(store.environment(&name("speech"), new.as_str()).await, Err(StoreError::NotFound { .. })));

    let set = async |state: EnvironmentState, packages: Option<Vec<Package>>, error: Option<&str>| {
        let change = EnvironmentChange {
            state,
            build: None,
            python: packages.as_ref().map(|_| "3.11.2".to_owned()),
            packages,
            lock: Some("a lock\0".to_owned()),
            error: error.map(str::to_owned),
            at: at(3),
        };
        let new = new.clone();
        write(&store, move |tx| {
            Box::pin(async move { tx.set_environment_state(&name("vision"), &new, &change).await })
        })
        .await
        .unwrap();
    };
    set(EnvironmentState::Building, None, None).await;
    assert_eq!(store.building_environments().await.unwrap()[0].1.digest, new);
    set(EnvironmentState::Failed, None, Some("no such package")).await;
    let packages = vec![Package { name: "scikit-learn".to_owned(), version: "1.9.0".to_owned() }];
    set(EnvironmentState::Ready, Some(packages.clone()), None).await;
    let found = store.environment(&vision, "sklearn").await.unwrap();
    assert_eq!((found.state, found.error, found.packages), (EnvironmentState::Ready, None, packages));
    assert_eq!((found.python.as_deref(), found.lock.as_deref()), (Some("3.11.2"), Some("a lock\u{fffd}")));
    let mut listed = Vec::new();
    let mut query = PageQuery { cursor: None, limit: Some(1) };
    loop {
        let page = store.list_environments(&vision, &query).await.unwrap();
        listed.extend(page.items.into_iter().map(|environment| environment.digest));
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => break,
        }
    }
    listed.sort();
    let mut all = [old, inline, new];
    all.sort();
    assert_eq!(listed, all);
}

async fn revisions_of_a_service_are_never_numbered_twice(store: Store) {
    let vision = name("vision");
    let deploy = async |model: Option<&str>| {
        let revision = NewRevision {
            wanted: "digits@latest".to_owned(),
            model: model.map(str::to_owned),
            waits_for: None,
            replicas: 2,
            cpu: Cpu::from_milli(250),
            memory: Memory::from_bytes(1 << 28),
            gpu: 0,
        };
        write(&store, move |tx| {
            Box::pin(async move { tx.upsert_service(&scope("vision"), &name("digits"), &revision).await })
        })
        .await
        .unwrap()
    };
    assert_eq!(deploy(None).await, 1);
    let pin = async |model: &'static str| {
        write(&store, move |tx| {
            Box::pin(async move { tx.pin_revision(&name("vision"), &name("digits"), 1, model).await })
        })
        .await
        .unwrap()
    };
    assert!(pin("digits@1").await);
    assert!(!pin("digits@2").await);
    assert_eq!(store.revision(&vision, &name("digits"), 1).await.unwrap().model.as_deref(), Some("digits@1"));
    let set = async |state: ServiceState, reason: Option<Reason>, serving: Option<u32>| {
        let change = ServiceChange { state, reason, serving, at: at(2) };
        write(&store, move |tx| {
            Box::pin(async move { tx.set_service_state(&name("vision"), &name("digits"), &change).await })
        })
        .await
        .unwrap();
    };
    set(ServiceState::Ready, None, Some(1)).await;
    assert_eq!(deploy(Some("digits@2")).await, 2);
    let row = store.service(&vision, &name("digits")).await.unwrap();
    assert_eq!((row.state, row.serving, row.revision.number), (ServiceState::Rolling, Some(1), 2));
    let reason = Reason::new(ReasonCode::OutOfMemory, "it needs more");
    set(ServiceState::Failed, Some(reason.clone()), Some(1)).await;
    assert_eq!(store.all_services().await.unwrap()[0].reason, Some(reason));
    let remove =
        || store.write(|tx| Box::pin(async move { tx.delete_service(&scope("vision"), &name("digits")).await }));
    remove().await.unwrap();
    assert!(matches!(remove().await, Err(StoreError::NotFound { .. })));
    assert!(store.list_services(&vision).await.unwrap().is_empty());
    assert_eq!(deploy(None).await, 3);
    let events = store.events(&vision, 0, Some("service"), 100).await.unwrap();
    let actions: Vec<_> = events.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(actions, ["rolling", "ready", "rolling", "failed", "deleted", "rolling"]);
}

async fn tokens_open_what_their_user_is_a_member_of(store: Store) {
    assert!(store.is_empty().await.unwrap());
    let token = |id: &str, user: &str| NewToken {
        id: id.to_owned(),
        hash: format!("hash of {id}"),
        domain: name("default"),
        user: name(user),
        title: "laptop\0".to_owned(),
        created_by: "lee".to_owned(),
        at: at(0),
    };
    let tokens = [token("1", "lee"), token("2", "kim")];
    write(&store, move |tx| {
        Box::pin(async move {
            tx.create_domain(&name("default"), "lee", at(0)).await?;
            tx.create_user(&name("default"), &name("lee"), true, "lee", at(0)).await?;
            tx.create_user(&name("default"), &name("kim"), false, "lee", at(0)).await?;
            tx.create_project(&scope("vision")).await?;
            tx.create_project(&scope("speech")).await?;
            tx.set_membership(&scope("vision"), &name("kim"), Role::Viewer).await?;
            tx.set_membership(&scope("vision"), &name("kim"), Role::Member).await?;
            for token in &tokens {
                tx.create_token(token).await?;
            }
            Ok(())
        })
    })
    .await
    .unwrap();
    assert!(!store.is_empty().await.unwrap());
    let table = store.token_table().await.unwrap();
    assert_eq!((table[0].user.clone(), table[0].owner, table[0].projects.len()), (name("lee"), true, 0));
    assert_eq!(table[1].projects, [(name("vision"), Role::Member)]);
    assert_eq!(table[1].hash, "hash of 2");
    let domain = name("default");
    assert_eq!(store.projects_of(&domain, &name("kim")).await.unwrap().len(), 1);
    assert_eq!(store.projects(&domain).await.unwrap().len(), 2);
    assert_eq!(store.memberships(&name("vision")).await.unwrap()[0].role, Role::Member);
    assert_eq!(store.users(&domain).await.unwrap().len(), 2);

    let twice = write(&store, |tx| Box::pin(async move { tx.create_project(&scope("vision")).await })).await;
    assert!(matches!(twice, Err(StoreError::Exists { .. })));
    let stranger = write(&store, |tx| {
        Box::pin(async move { tx.set_membership(&scope("vision"), &name("nobody"), Role::Admin).await })
    })
    .await;
    assert!(matches!(stranger, Err(StoreError::NotFound { .. })));
    let revoke = |user: Option<&'static str>, id: &'static str| {
        store.write(move |tx| {
            Box::pin(async move { tx.revoke_token(&name("default"), user.map(name).as_ref(), id).await })
        })
    };
    assert!(matches!(revoke(Some("kim"), "1").await, Err(StoreError::NotFound { .. })));
    revoke(Some("kim"), "2").await.unwrap();
    write(&store, |tx| Box::pin(async move { tx.remove_membership(&scope("vision"), &name("kim")).await }))
        .await
        .unwrap();
    assert_eq!(store.tokens(&domain, None).await.unwrap().len(), 1);
    assert_eq!(store.tokens(&domain, Some(&name("kim"))).await.unwrap().len(), 0);
}

async fn nodes_are_kept_as_they_were_last_seen(store: Store) {
    let mut node = NodeRow {
        name: name("here"),
        engine: "process".to_owned(),
        facts: NodeFacts { cpu_milli: 2000, memory_bytes: 1 << 34, gpus: Vec::new() },
        rate: NodeRate { per_hour: Money::from_nanos(5), assumed: true, source: "a table".to_owned() },
        limits: "cgroup v1".to_owned(),
        ready: true,
        seen_at: at(0),
    };
    for ready in [true, false] {
        node = NodeRow { ready, seen_at: at(i64::from(ready)), ..node };
        let node = node.clone();
        write(&store, move |tx| Box::pin(async move { tx.upsert_node(&node).await })).await.unwrap();
    }
    assert_eq!(store.nodes().await.unwrap(), [node]);
}
