-- Work queues. A task with a priority is performed once, by one worker.
--
-- `attempts` are those that went with a worker; `parent` is the task after whose success it was queued; `replaced_by` the one
-- that took its place while it waited.
ALTER TABLE task
    ADD COLUMN priority INT NULL,
    ADD COLUMN run_at DATETIME(6) NULL,
    ADD COLUMN attempts MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    ADD COLUMN parent BINARY(16) NULL,
    ADD COLUMN replaced_by BINARY(16) NULL;
-- How many tasks a worker runs at the same time; NULL for endpoints.
ALTER TABLE subscription
    ADD COLUMN slots INT UNSIGNED NULL;
-- One row for each task of a work queue that has not ended: small, whatever the ledger holds.
--
-- `state`: 0 ready, 1 held (as many of its key run as may), 2 delayed, 3 taken by a worker, 4 ended with a successor to be queued.
-- `held_key` is set in state 1 alone: the ready ones lie behind NULL in the order of their turn, and the best of a key
-- that is free again is found the same way. A key is unique among those that wait, hence NULL once it is taken.
CREATE TABLE queued_task (
    task_id BINARY(16) NOT NULL,
    task_type VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    state TINYINT UNSIGNED NOT NULL,
    held_key BINARY(32) NULL,
    priority INT NOT NULL,
    queued_at DATETIME(6) NOT NULL,
    limit_key BINARY(32) NULL,
    chains BOOLEAN NOT NULL,
    unique_scope VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
    unique_key BINARY(32) NULL,
    waiting_key BINARY(32) GENERATED ALWAYS AS (CASE WHEN state < 3 THEN unique_key END) STORED,
    PRIMARY KEY (task_id),
    UNIQUE KEY queued_unique (unique_scope, waiting_key),
    KEY queued_turn (task_type, state, held_key, priority, queued_at, task_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
-- What people have said about the queue of a type; no row means nothing.
CREATE TABLE queue (
    task_type VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    paused_at DATETIME(6) NULL,
    PRIMARY KEY (task_type)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
