-- Which rollout has an endpoint in flight, as on MySQL.
CREATE TABLE rollout_hold (
    lane TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    rollout BLOB NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (lane, endpoint)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollout_hold_rollout ON rollout_hold (rollout);
