-- +goose Up
-- The runs of a target of one kind and one state.
CREATE INDEX runs_target_kind_state ON runs (env, scope, team, kind, state, id);
-- The entries of an actor, newest first, without a place of the index for each action.
-- What a leaf says of its actor and action are columns: Postgres reads an indexed
-- expression from the row, and evaluates it, wherever an index of columns is enough.
DROP INDEX audit_entries_actor;
DROP INDEX audit_entries_target;
DROP INDEX audit_entries_action;
ALTER TABLE audit_entries
	ADD COLUMN action text GENERATED ALWAYS AS (substring(leaf, '"action":"([^"]*)"')) STORED,
	ADD COLUMN actor text GENERATED ALWAYS AS (substring(leaf, '"actor":"((?:[^"\\]|\\.)*)"')) STORED;
CREATE INDEX audit_entries_action ON audit_entries (action, idx);
CREATE INDEX audit_entries_target ON audit_entries (target, action, idx);
CREATE INDEX audit_entries_actor ON audit_entries (actor, action, idx);
CREATE INDEX audit_entries_person ON audit_entries (actor, idx);

-- +goose Down
DROP INDEX audit_entries_person;
DROP INDEX runs_target_kind_state;
DROP INDEX audit_entries_actor;
DROP INDEX audit_entries_target;
DROP INDEX audit_entries_action;
ALTER TABLE audit_entries DROP COLUMN action, DROP COLUMN actor;
CREATE INDEX audit_entries_action ON audit_entries ((substring(leaf, '"action":"([^"]*)"')), idx);
CREATE INDEX audit_entries_target ON audit_entries (target, (substring(leaf, '"action":"([^"]*)"')), idx);
CREATE INDEX audit_entries_actor ON audit_entries ((substring(leaf, '"actor":"((?:[^"\\]|\\.)*)"')), (substring(leaf, '"action":"([^"]*)"')), idx);
