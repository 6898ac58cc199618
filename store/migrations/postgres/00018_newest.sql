-- +goose Up
-- The newest run of a target that may change it: looking for it costs as much as all
-- else that a board asks of a target. The database keeps it, because instances of an
-- older version may queue runs beside this one.
ALTER TABLE targets ADD COLUMN newest_run_id bigint NOT NULL DEFAULT 0;
-- +goose StatementBegin
CREATE FUNCTION note_newest_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE targets SET newest_run_id = NEW.id
		WHERE env = NEW.env AND scope = NEW.scope AND team = NEW.team AND newest_run_id < NEW.id;
	RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER runs_newest AFTER INSERT ON runs FOR EACH ROW
	WHEN (NEW.kind NOT IN ('plan', 'drift')) EXECUTE FUNCTION note_newest_run();
UPDATE targets SET newest_run_id = COALESCE((SELECT max(r.id) FROM runs r WHERE r.env = targets.env AND r.scope = targets.scope
	AND r.team = targets.team AND r.kind NOT IN ('plan', 'drift')), 0);

-- +goose Down
DROP TRIGGER runs_newest ON runs;
DROP FUNCTION note_newest_run();
ALTER TABLE targets DROP COLUMN newest_run_id;
