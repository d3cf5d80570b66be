-- What happened to rollouts, as on MySQL.
CREATE TABLE rollout_event (
    rollout BLOB NOT NULL,
    seq INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    time INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    actor TEXT NULL,
    wave INTEGER NULL,
    endpoint TEXT NULL,
    told TEXT NULL,
    PRIMARY KEY (rollout, seq)
) STRICT, WITHOUT ROWID;
