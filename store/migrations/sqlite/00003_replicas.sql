-- +goose Up
-- The processes of the service that share this database. Their times are of the
-- database's clock: beat_at is the last sign of life, stopped_at is 0 until the
-- process has left by itself.
CREATE TABLE instances (
    id            text PRIMARY KEY,
    name          text NOT NULL,
    host          text NOT NULL,
    pool          text NOT NULL,
    roles         text NOT NULL,
    version       text NOT NULL,
    config_digest text NOT NULL,
    started_at    bigint NOT NULL,
    beat_at       bigint NOT NULL,
    draining      bigint NOT NULL CHECK (draining IN (0, 1)),
    stopped_at    bigint NOT NULL
);

-- What one process at a time may do, and until when by the database's clock.
CREATE TABLE leases (
    name   text PRIMARY KEY,
    holder text NOT NULL,
    until  bigint NOT NULL
);

-- The configurations that runs were admitted under.
CREATE TABLE configs (
    digest        text PRIMARY KEY,
    text          text NOT NULL,
    first_seen_at bigint NOT NULL
);

-- Who has a run in hand, how often it has changed hands, and how many of its
-- attempts were given back unharmed.
ALTER TABLE runs ADD COLUMN worker text NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN handed_back bigint NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN pool text NOT NULL DEFAULT 'default';
ALTER TABLE runs ADD COLUMN config_digest text NOT NULL DEFAULT '';

-- Calls waited in queues named for scopes, where nobody would find them now.
-- The sweep at the start of the work makes them anew.
DELETE FROM river_job WHERE kind = 'run';

-- +goose Down
ALTER TABLE runs DROP COLUMN config_digest;
ALTER TABLE runs DROP COLUMN pool;
ALTER TABLE runs DROP COLUMN handed_back;
ALTER TABLE runs DROP COLUMN epoch;
ALTER TABLE runs DROP COLUMN worker;
DROP TABLE configs;
DROP TABLE leases;
DROP TABLE instances;
