-- +goose Up
-- Who wrote and who committed what a tag releases, as the commit says it. They do
-- not count as approvers. Empty for what was recorded before.
ALTER TABLE releases ADD COLUMN author text NOT NULL DEFAULT '';
ALTER TABLE releases ADD COLUMN committer text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE releases DROP COLUMN committer;
ALTER TABLE releases DROP COLUMN author;
