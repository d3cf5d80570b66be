-- The endpoints of rollouts, as on MySQL.
CREATE TABLE rollout_target (
    rollout BLOB NOT NULL,
    wave INTEGER NOT NULL,
    position INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    state INTEGER NOT NULL,
    since INTEGER NOT NULL,
    round INTEGER NOT NULL DEFAULT 0,
    task_id BLOB NULL,
    errnr INTEGER NULL,
    note TEXT NULL,
    present_since INTEGER NULL,
    instance BLOB NULL,
    PRIMARY KEY (rollout, wave, position)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX rollout_target_endpoint ON rollout_target (rollout, endpoint);
CREATE INDEX rollout_target_state ON rollout_target (rollout, state, wave, position);
