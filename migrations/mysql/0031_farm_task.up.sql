-- Tasks of a render farm. `job_turn` and `turn` are the priorities with the other sign, so that keys run in the order of turns.
--
-- `unmet` counts the parents that are not completed; `ready` is what can be handed out: codes below 3 are the statuses that wait for
-- a worker. A task that is about to be handed out is reserved for its worker while the Server is asked about it.
CREATE TABLE farm_task (
    id VARBINARY(16) NOT NULL,
    status TINYINT UNSIGNED NOT NULL,
    job VARBINARY(16) NOT NULL,
    job_type VARCHAR(190) NOT NULL,
    task_type VARCHAR(190) NOT NULL,
    job_turn INT NOT NULL,
    turn INT NOT NULL,
    unmet INT UNSIGNED NOT NULL DEFAULT 0,
    ready BOOLEAN GENERATED ALWAYS AS (status < 3 AND unmet = 0) STORED,
    etag TEXT NOT NULL,
    activity TEXT NOT NULL,
    worker TEXT NOT NULL,
    worker_id VARBINARY(16) NULL,
    failed_by MEDIUMTEXT NULL,
    timing TEXT NULL,
    last_worker_ping DATETIME(6) NULL,
    last_updated DATETIME(6) NULL,
    reserved_by VARBINARY(16) NULL,
    reserved_until DATETIME(6) NULL,
    document LONGTEXT NOT NULL,
    PRIMARY KEY (id),
    KEY farm_task_turn (ready, task_type, job_turn, turn, id),
    KEY farm_task_worker (worker_id, status),
    KEY farm_task_silent (status, last_worker_ping),
    KEY farm_task_old (last_updated)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
