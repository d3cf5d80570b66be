-- The endpoints of rollouts, each in one wave. They copy what they need of the responses, so the tasks may be forgotten. `state`: 0 PENDING,
-- 1 SENT, 2 VERIFYING, 3 OK, 4 FAILED, 5 UNREACHABLE, 6 ABSENT, 7 SKIPPED, 8 SUPERSEDED. `round` counts how often it was started.
CREATE TABLE rollout_target (
    rollout BINARY(16) NOT NULL,
    wave INT UNSIGNED NOT NULL,
    position INT UNSIGNED NOT NULL,
    endpoint VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    state TINYINT UNSIGNED NOT NULL,
    since DATETIME(6) NOT NULL,
    round INT UNSIGNED NOT NULL DEFAULT 0,
    task_id BINARY(16) NULL,
    errnr INT NULL,
    note TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    present_since DATETIME(6) NULL,
    instance BINARY(16) NULL,
    PRIMARY KEY (rollout, wave, position),
    UNIQUE KEY rollout_target_endpoint (rollout, endpoint),
    KEY rollout_target_state (rollout, state, wave, position)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
