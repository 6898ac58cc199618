-- +goose Up
-- What all instances must know and nobody else: the key of the page's sessions.
CREATE TABLE secrets (
    name       text PRIMARY KEY,
    value      text NOT NULL,
    created_at bigint NOT NULL
);

-- +goose Down
DROP TABLE secrets;
