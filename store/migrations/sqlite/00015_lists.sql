-- +goose Up
-- What lists and pages are found by, newest first, with each of their filters; what
-- holds a target, and what is old enough to be forgotten. Entries of the audit log
-- are never rewritten: who did what is indexed as their leaves say it, and a leaf
-- that somebody has made unreadable stays what it is.
CREATE INDEX runs_changing ON runs (env, scope, team, id) WHERE kind NOT IN ('plan', 'drift');
CREATE INDEX runs_target_state ON runs (env, scope, team, state, id);
CREATE INDEX runs_target_kind ON runs (env, scope, team, kind, id);
CREATE INDEX runs_kind ON runs (kind, id);
CREATE INDEX runs_kind_state ON runs (kind, state, id);
CREATE INDEX runs_finished ON runs (finished_at, id);
CREATE INDEX releases_decision ON releases (decision, id);
CREATE INDEX releases_target_decision ON releases (env, scope, team, decision, id);
CREATE INDEX gate_results_created ON gate_results (created_at);
CREATE INDEX inventory_type ON inventory (type, env, scope, team, address);
CREATE INDEX inventory_provider ON inventory (provider, env, scope, team, address);
CREATE INDEX inventory_address ON inventory (address, env, scope, team);
CREATE INDEX audit_entries_place ON audit_entries (target, idx);
CREATE INDEX audit_entries_run ON audit_entries (run_id, idx);
CREATE INDEX audit_entries_action ON audit_entries ((substr(leaf, instr(leaf, '"action":"') + 10, instr(substr(leaf, instr(leaf, '"action":"') + 10, 64), '"') - 1)), idx);
CREATE INDEX audit_entries_target ON audit_entries (target, (substr(leaf, instr(leaf, '"action":"') + 10, instr(substr(leaf, instr(leaf, '"action":"') + 10, 64), '"') - 1)), idx);
CREATE INDEX audit_entries_actor ON audit_entries ((CASE WHEN json_valid(leaf) THEN json_extract(leaf, '$.actor') END), (substr(leaf, instr(leaf, '"action":"') + 10, instr(substr(leaf, instr(leaf, '"action":"') + 10, 64), '"') - 1)), idx);

-- +goose Down
DROP INDEX audit_entries_actor;
DROP INDEX audit_entries_target;
DROP INDEX audit_entries_action;
DROP INDEX audit_entries_run;
DROP INDEX audit_entries_place;
DROP INDEX inventory_address;
DROP INDEX inventory_provider;
DROP INDEX inventory_type;
DROP INDEX gate_results_created;
DROP INDEX releases_target_decision;
DROP INDEX releases_decision;
DROP INDEX runs_finished;
DROP INDEX runs_kind_state;
DROP INDEX runs_kind;
DROP INDEX runs_target_kind;
DROP INDEX runs_target_state;
DROP INDEX runs_changing;
