-- Tasks of a render farm, as on MySQL.
CREATE TABLE farm_task (
    id BLOB NOT NULL PRIMARY KEY,
    status INTEGER NOT NULL,
    job BLOB NOT NULL,
    job_type TEXT NOT NULL,
    task_type TEXT NOT NULL,
    job_turn INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    unmet INTEGER NOT NULL DEFAULT 0,
    ready INTEGER GENERATED ALWAYS AS (status < 3 AND unmet = 0) STORED,
    etag TEXT NOT NULL,
    activity TEXT NOT NULL,
    worker TEXT NOT NULL,
    worker_id BLOB NULL,
    failed_by TEXT NULL,
    timing TEXT NULL,
    last_worker_ping INTEGER NULL,
    last_updated INTEGER NULL,
    reserved_by BLOB NULL,
    reserved_until INTEGER NULL,
    document TEXT NOT NULL
) STRICT;
CREATE INDEX farm_task_turn ON farm_task (ready, task_type, job_turn, turn, id);
CREATE INDEX farm_task_worker ON farm_task (worker_id, status);
CREATE INDEX farm_task_silent ON farm_task (status, last_worker_ping);
CREATE INDEX farm_task_old ON farm_task (last_updated);
