-- Rollouts, as on MySQL. Times are microseconds since 1970.
CREATE TABLE rollout (
    id BLOB NOT NULL PRIMARY KEY,
    identifier TEXT NOT NULL,
    task_type TEXT NOT NULL,
    lane TEXT NOT NULL,
    payload TEXT NOT NULL,
    document TEXT NOT NULL,
    settings TEXT NOT NULL,
    digest BLOB NOT NULL,
    status INTEGER NOT NULL,
    resume_to INTEGER NULL,
    reason TEXT NULL,
    revision INTEGER NOT NULL DEFAULT 0,
    events INTEGER NOT NULL DEFAULT 0,
    batches INTEGER NOT NULL DEFAULT 0,
    allowed_failed INTEGER NULL,
    allowed_unreachable INTEGER NULL,
    max_absent INTEGER NULL,
    created_by TEXT NULL,
    parent BLOB NULL,
    created INTEGER NOT NULL,
    start_at INTEGER NULL,
    started_at INTEGER NULL,
    admitted_at INTEGER NULL,
    ended_at INTEGER NULL,
    expires_at INTEGER NOT NULL,
    due_at INTEGER NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX rollout_identifier ON rollout (identifier);
CREATE INDEX rollout_due ON rollout (due_at);
CREATE INDEX rollout_lane ON rollout (lane, started_at);
CREATE INDEX rollout_status ON rollout (status, id);
