-- +goose Up
-- Where runs are told of outside, and how far each has come: the index of the
-- first audit entry that was not told, how many runs were told of and how many
-- were refused for good, and what is wrong now. Times are of the database's clock.
CREATE TABLE notifications (
    name      text PRIMARY KEY,
    position  bigint NOT NULL,
    told      bigint NOT NULL DEFAULT 0,
    dropped   bigint NOT NULL DEFAULT 0,
    failures  bigint NOT NULL DEFAULT 0,
    error     text NOT NULL DEFAULT '',
    told_at   bigint NOT NULL DEFAULT 0,
    failed_at bigint NOT NULL DEFAULT 0,
    retry_at  bigint NOT NULL DEFAULT 0,
    seen_at   bigint NOT NULL
);

-- +goose Down
DROP TABLE notifications;
