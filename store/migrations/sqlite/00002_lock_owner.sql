-- +goose Up
-- How the run's engine names itself in a state's lock, so that a lock can be
-- known as our own.
ALTER TABLE runs ADD COLUMN lock_owner text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE runs DROP COLUMN lock_owner;
