-- +goose Up
-- What can be told of an apply whose end was not seen: serial and lineage of the
-- state just before it began, what was gathered since, and who asked that the
-- state which it left be pushed.
ALTER TABLE runs ADD COLUMN state_before text NOT NULL DEFAULT 'null';
ALTER TABLE runs ADD COLUMN evidence text NOT NULL DEFAULT 'null';
ALTER TABLE runs ADD COLUMN pushed_by text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE runs DROP COLUMN pushed_by;
ALTER TABLE runs DROP COLUMN evidence;
ALTER TABLE runs DROP COLUMN state_before;
