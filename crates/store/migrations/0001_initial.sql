-- One text for SQLite and PostgreSQL: TEXT, BIGINT and DOUBLE PRECISION only. Times are microseconds since 1970,
-- money is nano-dollars, JSON is TEXT, yes and no are 1 and 0. Every row says in which domain and project it is,
-- who made it and when; nodes belong to the installation and have neither.

CREATE TABLE domains (
    name TEXT NOT NULL PRIMARY KEY,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE users (
    domain TEXT NOT NULL,
    name TEXT NOT NULL,
    owner BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (domain, name)
);

CREATE TABLE projects (
    name TEXT NOT NULL PRIMARY KEY,
    domain TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE memberships (
    project TEXT NOT NULL,
    user_name TEXT NOT NULL,
    role TEXT NOT NULL,
    domain TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, user_name)
);

CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    user_name TEXT NOT NULL,
    title TEXT NOT NULL,
    domain TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE events (
    sequence BIGINT NOT NULL PRIMARY KEY,
    resource TEXT NOT NULL,
    subject TEXT NOT NULL,
    action TEXT NOT NULL,
    message TEXT,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX events_by_project ON events (project, sequence);
CREATE INDEX events_by_subject ON events (project, subject, sequence);

CREATE TABLE runs (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    identity TEXT,
    code TEXT,
    environment TEXT,
    inputs TEXT NOT NULL,
    waits_for TEXT NOT NULL,
    service TEXT,
    revision BIGINT,
    cpu BIGINT NOT NULL,
    memory BIGINT NOT NULL,
    gpu BIGINT NOT NULL,
    timeout TEXT,
    retries_lost BIGINT NOT NULL,
    retries_failed BIGINT NOT NULL,
    state TEXT NOT NULL,
    -- 1 until it is over
    active BIGINT NOT NULL,
    reason_code TEXT,
    reason_message TEXT,
    node TEXT,
    attempt BIGINT NOT NULL,
    devices TEXT NOT NULL DEFAULT '[]',
    attempt_started_at BIGINT,
    stop_actor TEXT,
    stop_code TEXT,
    stop_at BIGINT,
    started_at BIGINT,
    ended_at BIGINT,
    cost BIGINT NOT NULL,
    failures_lost BIGINT NOT NULL,
    failures_failed BIGINT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX runs_by_age ON runs (project, created_at, id);
CREATE INDEX runs_by_name ON runs (project, name, created_at, id);
CREATE INDEX runs_by_identity ON runs (project, identity, created_at) WHERE identity IS NOT NULL;
CREATE INDEX runs_by_service ON runs (project, service, created_at) WHERE service IS NOT NULL;
CREATE INDEX runs_active ON runs (created_at, id) WHERE active = 1;
CREATE INDEX runs_active_by_project ON runs (project, created_at, id) WHERE active = 1;

CREATE TABLE attempts (
    run TEXT NOT NULL,
    number BIGINT NOT NULL,
    node TEXT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    exit_code BIGINT,
    signal BIGINT,
    reason_code TEXT,
    reason_message TEXT,
    cpu_seconds DOUBLE PRECISION,
    peak_memory BIGINT,
    cost BIGINT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (run, number)
);

CREATE TABLE ledger (
    run TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    service TEXT,
    node TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    rate BIGINT NOT NULL,
    cost BIGINT,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (run, attempt)
);
CREATE INDEX ledger_by_project ON ledger (project, started_at);

CREATE TABLE outputs (
    run TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT,
    manifest TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (run, kind, name)
);

-- The value is the shortest text that reads back as the same number: SQLite has no NaN.
CREATE TABLE metrics (
    run TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    position BIGINT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    step BIGINT,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (run, attempt, position, name)
);

-- Kept beside the metrics so that a list of runs does not read all of them.
CREATE TABLE last_metrics (
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    position BIGINT NOT NULL,
    value TEXT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (run, name)
);

-- A dataset is known by its id inside, so that a new name breaks nothing that names a version.
CREATE TABLE datasets (
    id BIGINT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    latest BIGINT NOT NULL,
    files BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (project, name)
);

CREATE TABLE dataset_versions (
    dataset BIGINT NOT NULL,
    version BIGINT NOT NULL,
    manifest TEXT NOT NULL,
    files BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (dataset, version)
);

-- Which dataset versions a run reads.
CREATE TABLE run_datasets (
    run TEXT NOT NULL,
    dataset BIGINT NOT NULL,
    version BIGINT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (run, dataset, version)
);
CREATE INDEX run_datasets_by_dataset ON run_datasets (dataset);

CREATE TABLE models (
    name TEXT NOT NULL,
    latest BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, name)
);

CREATE TABLE model_versions (
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    manifest TEXT NOT NULL,
    size BIGINT NOT NULL,
    format TEXT NOT NULL,
    signature TEXT NOT NULL,
    metrics TEXT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, name, version)
);

CREATE TABLE model_aliases (
    name TEXT NOT NULL,
    alias TEXT NOT NULL,
    version BIGINT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, name, alias)
);

-- What a model version was made from, a row each: kind is run, job, code, environment or dataset. Of a dataset,
-- subject is its id and version which of its versions.
CREATE TABLE lineage (
    name TEXT NOT NULL,
    model_version BIGINT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    version BIGINT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, name, model_version, kind, subject, version)
);
CREATE INDEX lineage_by_subject ON lineage (project, kind, subject);

CREATE TABLE environments (
    digest TEXT NOT NULL,
    input TEXT NOT NULL,
    state TEXT NOT NULL,
    build TEXT,
    python TEXT,
    packages TEXT NOT NULL,
    lock_text TEXT,
    error TEXT,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, digest)
);

CREATE TABLE environment_names (
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, name)
);

CREATE TABLE services (
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    reason_code TEXT,
    reason_message TEXT,
    -- the newest revision, and the one that answers
    revision BIGINT NOT NULL,
    serving BIGINT,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, name)
);

-- Outlives its service, so that a service of the same name never has a revision number twice.
CREATE TABLE revisions (
    service TEXT NOT NULL,
    number BIGINT NOT NULL,
    wanted TEXT NOT NULL,
    model TEXT,
    waits_for TEXT,
    replicas BIGINT NOT NULL,
    cpu BIGINT NOT NULL,
    memory BIGINT NOT NULL,
    gpu BIGINT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, service, number)
);

CREATE TABLE nodes (
    name TEXT NOT NULL PRIMARY KEY,
    engine TEXT NOT NULL,
    facts TEXT NOT NULL,
    rate TEXT NOT NULL,
    limits TEXT NOT NULL,
    ready BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Which content a project has shown to have. Content itself is kept once for all of them.
CREATE TABLE blob_grants (
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, digest)
);

CREATE TABLE manifests (
    digest TEXT NOT NULL,
    content TEXT NOT NULL,
    files BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, digest)
);
