-- One row a submission. Times are microseconds since 1970; `identifier` is bytes, as on MySQL; `endpoints` is NULL when the
-- customer gave no list.
CREATE TABLE task (
    id BLOB NOT NULL PRIMARY KEY,
    task_type TEXT NOT NULL,
    identifier BLOB NOT NULL,
    status INTEGER NOT NULL,
    payload TEXT NOT NULL,
    endpoints TEXT NULL,
    digest BLOB NOT NULL,
    expected INTEGER NOT NULL DEFAULT 0,
    received INTEGER NOT NULL DEFAULT 0,
    finished INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    canceled INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0,
    asks INTEGER NOT NULL DEFAULT 0,
    start_time INTEGER NOT NULL,
    frozen_at INTEGER NULL,
    published_at INTEGER NULL,
    finished_at INTEGER NULL,
    receive_by INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX task_identifier ON task (task_type, identifier);
CREATE INDEX task_list ON task (task_type, id);
CREATE INDEX task_state ON task (status, task_type, id);
CREATE INDEX task_due ON task (due_at);
