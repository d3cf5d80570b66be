-- Requests, as on MySQL. Times are microseconds since 1970.
CREATE TABLE requests (
    token TEXT NOT NULL PRIMARY KEY,
    request_token TEXT NULL,
    action TEXT NOT NULL,
    params TEXT NOT NULL,
    extras TEXT NULL,
    steps TEXT NOT NULL,
    step INTEGER NOT NULL DEFAULT 0,
    status INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)),
    completed INTEGER NULL,
    error TEXT NULL,
    revision INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NULL,
    expires_at INTEGER NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_list ON requests (created, token);
CREATE INDEX requests_state ON requests (status, created, token);
CREATE INDEX requests_due ON requests (status, due_at);
CREATE INDEX requests_action ON requests (action, created, token);
CREATE INDEX requests_end ON requests (completed);
