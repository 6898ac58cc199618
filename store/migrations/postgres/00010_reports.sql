-- +goose Up
-- The reports of gates that write one, beside a run's findings.
ALTER TABLE run_details ADD COLUMN reports text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE run_details DROP COLUMN reports;
