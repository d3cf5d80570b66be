-- Workers of a render farm. `secret` is a salt with the slow hash of what the worker shows.
CREATE TABLE farm_worker (
    id BLOB NOT NULL PRIMARY KEY,
    secret BLOB NOT NULL,
    nickname TEXT NOT NULL,
    platform TEXT NOT NULL,
    address TEXT NOT NULL,
    software TEXT NOT NULL,
    status TEXT NOT NULL,
    requested TEXT NULL,
    lazy INTEGER NOT NULL,
    task_types TEXT NOT NULL,
    current_task BLOB NULL,
    current_job BLOB NULL,
    current_task_status TEXT NOT NULL,
    current_task_updated INTEGER NULL,
    last_activity INTEGER NULL,
    sleep TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX farm_worker_silent ON farm_worker (status, last_activity);
