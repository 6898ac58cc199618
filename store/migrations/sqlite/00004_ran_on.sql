-- +goose Up
-- On which instance a run's last runner was started, whoever has the run in
-- hand since: only there can its files and processes be looked at.
ALTER TABLE runs ADD COLUMN ran_on text NOT NULL DEFAULT '';

-- A remote that somebody asked to be looked at, for whoever holds its lease.
ALTER TABLE leases ADD COLUMN asked bigint NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE leases DROP COLUMN asked;
ALTER TABLE runs DROP COLUMN ran_on;
