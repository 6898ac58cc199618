-- +goose Up
-- The runs of a target of one kind and one state.
CREATE INDEX runs_target_kind_state ON runs (env, scope, team, kind, state, id);
-- The entries of an actor, newest first, without a place of the index for each action.
CREATE INDEX audit_entries_person ON audit_entries ((CASE WHEN json_valid(leaf) THEN json_extract(leaf, '$.actor') END), idx);

-- +goose Down
DROP INDEX audit_entries_person;
DROP INDEX runs_target_kind_state;
