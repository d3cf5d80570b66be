-- The waves of rollouts, as on MySQL.
CREATE TABLE rollout_wave (
    rollout BLOB NOT NULL,
    wave INTEGER NOT NULL,
    name TEXT NULL,
    size INTEGER NOT NULL,
    phase INTEGER NOT NULL,
    since INTEGER NULL,
    places INTEGER NOT NULL,
    allowed_failed INTEGER NULL,
    allowed_unreachable INTEGER NULL,
    settings TEXT NOT NULL,
    approvals TEXT NULL,
    count_pending INTEGER NOT NULL DEFAULT 0,
    count_sent INTEGER NOT NULL DEFAULT 0,
    count_verifying INTEGER NOT NULL DEFAULT 0,
    count_ok INTEGER NOT NULL DEFAULT 0,
    count_failed INTEGER NOT NULL DEFAULT 0,
    count_unreachable INTEGER NOT NULL DEFAULT 0,
    count_absent INTEGER NOT NULL DEFAULT 0,
    count_skipped INTEGER NOT NULL DEFAULT 0,
    count_superseded INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (rollout, wave)
) STRICT, WITHOUT ROWID;
