-- +goose Up
-- The resources of each target's state as of its last apply, and the run that
-- last changed each. Times are of the clock of the instance that drove it.
CREATE TABLE inventory (
    env        text NOT NULL,
    scope      text NOT NULL,
    team       text NOT NULL,
    address    text NOT NULL,
    type       text NOT NULL,
    provider   text NOT NULL,
    mode       text NOT NULL CHECK (mode IN ('managed', 'data')),
    run_id     bigint NOT NULL,
    tag        text NOT NULL,
    changed_at bigint NOT NULL,
    PRIMARY KEY (env, scope, team, address)
);

-- +goose Down
DROP TABLE inventory;
