-- The jobs of requests, as on MySQL.
CREATE TABLE jobs (
    id INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    token TEXT NOT NULL,
    step INTEGER NOT NULL,
    error TEXT NULL,
    status INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)),
    completed INTEGER NULL,
    try INTEGER NOT NULL DEFAULT 1,
    last_try INTEGER NULL,
    task_id BLOB NULL,
    extras TEXT NULL,
    due_at INTEGER NULL
) STRICT;
CREATE UNIQUE INDEX jobs_try ON jobs (token, step, name, try);
CREATE INDEX jobs_task ON jobs (task_id);
