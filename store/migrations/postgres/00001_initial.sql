-- +goose Up
CREATE TABLE repositories (
    name             text PRIMARY KEY,
    first_contact_at bigint NOT NULL
);

-- Every tag that a repository has shown: the object id under which it was first
-- seen stays for good, and beside it what the remote shows now ('' when gone).
CREATE TABLE tag_refs (
    repository text NOT NULL,
    name       text NOT NULL,
    pinned_id  text NOT NULL,
    seen_id    text NOT NULL,
    PRIMARY KEY (repository, name)
);

CREATE TABLE releases (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repository text NOT NULL,
    tag        text NOT NULL,
    env        text NOT NULL,
    scope      text NOT NULL,
    team       text NOT NULL,
    version    text NOT NULL,
    object_id  text NOT NULL,
    commit_id  text NOT NULL,
    tagger     text NOT NULL,
    tagged_at  bigint NOT NULL,
    message    text NOT NULL,
    signature  text NOT NULL,
    seen_at    bigint NOT NULL,
    decision   text NOT NULL CHECK (decision IN ('admitted', 'adopted', 'refused')),
    reason     text NOT NULL
);
CREATE INDEX releases_target ON releases (env, scope, team, id);
CREATE INDEX releases_tag ON releases (repository, tag);

-- One row per target that was ever admitted. The row is what transactions lock
-- to decide what may start.
CREATE TABLE targets (
    env             text NOT NULL,
    scope           text NOT NULL,
    team            text NOT NULL,
    account         text NOT NULL,
    region          text NOT NULL,
    backend         text NOT NULL,
    deployed_run_id bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (env, scope, team)
);

CREATE TABLE runs (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind               text NOT NULL CHECK (kind IN ('deploy', 'drift', 'rollback', 'destroy', 'plan')),
    repository         text NOT NULL,
    release_id         bigint NOT NULL,
    tag                text NOT NULL,
    version            text NOT NULL,
    object_id          text NOT NULL,
    commit_id          text NOT NULL,
    env                text NOT NULL,
    scope              text NOT NULL,
    team               text NOT NULL,
    account            text NOT NULL,
    state              text NOT NULL CHECK (state IN ('queued', 'running', 'awaiting_approval', 'succeeded',
                           'failed', 'denied', 'rejected', 'cancelled', 'superseded', 'unknown')),
    stages             text NOT NULL,
    changes            text NOT NULL,
    findings           text NOT NULL,
    reason             text NOT NULL,
    attempt            bigint NOT NULL,
    step               bigint NOT NULL,
    runner_dir         text NOT NULL,
    applying           bigint NOT NULL CHECK (applying IN (0, 1)),
    plan_digest        text NOT NULL,
    plan_key           text NOT NULL,
    approvals_required bigint NOT NULL,
    approvals          text NOT NULL,
    outputs            text NOT NULL,
    cancelled_by       text NOT NULL,
    created_by         text NOT NULL,
    created_at         bigint NOT NULL,
    started_at         bigint NOT NULL,
    finished_at        bigint NOT NULL
);
CREATE INDEX runs_target ON runs (env, scope, team, id);
CREATE INDEX runs_state ON runs (state, id);
CREATE INDEX runs_tag ON runs (repository, tag);
-- At most one run holds a target, whatever the code above believes.
CREATE UNIQUE INDEX runs_one_holds_target ON runs (env, scope, team)
    WHERE state IN ('running', 'awaiting_approval', 'unknown');

CREATE TABLE run_details (
    run_id   bigint PRIMARY KEY,
    plan     text NOT NULL,
    findings text NOT NULL
);

CREATE TABLE gate_results (
    key        text PRIMARY KEY,
    result     text NOT NULL,
    created_at bigint NOT NULL
);

-- The audit log: leaves as they were hashed, and the tree's stored hashes in
-- tlog's order. audit_head has one row; locking it orders the appends.
CREATE TABLE audit_entries (
    idx    bigint PRIMARY KEY,
    target text NOT NULL,
    run_id bigint NOT NULL,
    leaf   text NOT NULL
);
CREATE TABLE audit_hashes (
    idx  bigint PRIMARY KEY,
    hash bytea NOT NULL
);
CREATE TABLE audit_head (
    id   bigint PRIMARY KEY CHECK (id = 1),
    size bigint NOT NULL
);
INSERT INTO audit_head (id, size) VALUES (1, 0);

-- +goose Down
DROP TABLE audit_head;
DROP TABLE audit_hashes;
DROP TABLE audit_entries;
DROP TABLE gate_results;
DROP TABLE run_details;
DROP TABLE runs;
DROP TABLE targets;
DROP TABLE releases;
DROP TABLE tag_refs;
DROP TABLE repositories;
