-- One row for each endpoint that must answer a task. The index holds the open rows alone.
CREATE TABLE response (
    task_id BLOB NOT NULL,
    endpoint TEXT NOT NULL,
    status INTEGER NOT NULL,
    errnr INTEGER NULL,
    errmsg TEXT NULL,
    payload TEXT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    attempts TEXT NULL,
    progress INTEGER NULL,
    log TEXT NULL,
    start_time INTEGER NULL,
    last_modified_time INTEGER NOT NULL,
    PRIMARY KEY (task_id, endpoint)
) STRICT;
CREATE INDEX response_owed ON response (endpoint, task_id) WHERE status < 2;
