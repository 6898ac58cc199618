-- +goose Up
-- The keys that sign checkpoints of the audit log. One at a time signs; those
-- before it are kept, because what they signed is. The private half is empty
-- where the configuration gives it.
CREATE TABLE audit_keys (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    verifier   text NOT NULL UNIQUE,
    signer     text NOT NULL,
    created_at bigint NOT NULL,
    retired_at bigint NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX audit_keys_one_signs ON audit_keys (retired_at) WHERE retired_at = 0;

-- Who is handed the audit log entry by entry, and how far. The position is the
-- index of the next entry; failures are those in a row.
CREATE TABLE consumers (
    name          text PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('webhook', 'copy')),
    position      bigint NOT NULL CHECK (position >= 0),
    sent_at       bigint NOT NULL DEFAULT 0,
    failures      bigint NOT NULL DEFAULT 0,
    failing_since bigint NOT NULL DEFAULT 0,
    retry_at      bigint NOT NULL DEFAULT 0,
    trouble       text NOT NULL DEFAULT ''
);

-- +goose Down
DROP TABLE consumers;
DROP TABLE audit_keys;
