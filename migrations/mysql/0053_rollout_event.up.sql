-- What happened to rollouts, in order; rows are added and never changed. `kind` is a number of EventKind. `actor` is the name of the token of
-- the one who asked for it; null for what the rollout did by itself.
CREATE TABLE rollout_event (
    rollout BINARY(16) NOT NULL,
    seq INT UNSIGNED NOT NULL,
    revision INT UNSIGNED NOT NULL,
    time DATETIME(6) NOT NULL,
    kind TINYINT UNSIGNED NOT NULL,
    actor VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
    wave INT UNSIGNED NULL,
    endpoint VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NULL,
    told TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    PRIMARY KEY (rollout, seq)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
