-- +goose Up
-- What a run needs before it may apply, and what it waits for: the approvals that
-- the environment and the policies ask for and until when they count, the time
-- before which windows and freezes hold it back, who let it go on all the same,
-- the gates that would have failed it but for their soft mode, and what a
-- speculative plan without a tag was asked for.
ALTER TABLE runs ADD COLUMN requirements text NOT NULL DEFAULT 'null';
ALTER TABLE runs ADD COLUMN approve_by bigint NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN wait_until bigint NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN overridden_by text NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN soft_gates text NOT NULL DEFAULT 'null';
ALTER TABLE runs ADD COLUMN ref text NOT NULL DEFAULT '';

-- Runs that never change anything hold no target.
DROP INDEX runs_one_holds_target;
CREATE UNIQUE INDEX runs_one_holds_target ON runs (env, scope, team)
    WHERE state IN ('running', 'awaiting_approval', 'unknown') AND kind NOT IN ('plan', 'drift');

-- What nobody may change for a while. An empty scope or team stands for all.
CREATE TABLE freezes (
    id         integer PRIMARY KEY AUTOINCREMENT,
    env        text NOT NULL,
    scope      text NOT NULL,
    team       text NOT NULL,
    until      bigint NOT NULL,
    reason     text NOT NULL,
    created_by text NOT NULL,
    created_at bigint NOT NULL,
    lifted_by  text NOT NULL DEFAULT '',
    lifted_at  bigint NOT NULL DEFAULT 0
);

-- API tokens, by the hash of their secret.
CREATE TABLE tokens (
    id         integer PRIMARY KEY AUTOINCREMENT,
    name       text NOT NULL,
    actor      text NOT NULL,
    hash       text NOT NULL UNIQUE,
    grants     text NOT NULL,
    member_of  text NOT NULL,
    created_by text NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    used_at    bigint NOT NULL DEFAULT 0,
    revoked_at bigint NOT NULL DEFAULT 0,
    revoked_by text NOT NULL DEFAULT ''
);

-- +goose Down
DROP TABLE tokens;
DROP TABLE freezes;
DROP INDEX runs_one_holds_target;
CREATE UNIQUE INDEX runs_one_holds_target ON runs (env, scope, team)
    WHERE state IN ('running', 'awaiting_approval', 'unknown');
ALTER TABLE runs DROP COLUMN ref;
ALTER TABLE runs DROP COLUMN soft_gates;
ALTER TABLE runs DROP COLUMN overridden_by;
ALTER TABLE runs DROP COLUMN wait_until;
ALTER TABLE runs DROP COLUMN approve_by;
ALTER TABLE runs DROP COLUMN requirements;
