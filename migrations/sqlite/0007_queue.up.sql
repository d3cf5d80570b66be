-- Work queues, as on MySQL. A task with a priority is performed once, by one worker.
ALTER TABLE task ADD COLUMN priority INTEGER NULL;
ALTER TABLE task ADD COLUMN run_at INTEGER NULL;
ALTER TABLE task ADD COLUMN attempts TEXT NULL;
ALTER TABLE task ADD COLUMN parent BLOB NULL;
ALTER TABLE task ADD COLUMN replaced_by BLOB NULL;
ALTER TABLE subscription ADD COLUMN slots INTEGER NULL;
-- `state`: 0 ready, 1 held (as many of its key run as may), 2 delayed, 3 taken by a worker, 4 ended with a successor to be queued.
CREATE TABLE queued_task (
    task_id BLOB NOT NULL PRIMARY KEY,
    task_type TEXT NOT NULL,
    state INTEGER NOT NULL,
    held_key BLOB NULL,
    priority INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    limit_key BLOB NULL,
    chains INTEGER NOT NULL,
    unique_scope TEXT NULL,
    unique_key BLOB NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX queued_unique ON queued_task (unique_scope, unique_key) WHERE state < 3 AND unique_key IS NOT NULL;
CREATE INDEX queued_turn ON queued_task (task_type, state, held_key, priority, queued_at, task_id);
CREATE TABLE queue (
    task_type TEXT NOT NULL PRIMARY KEY,
    paused_at INTEGER NULL
) STRICT, WITHOUT ROWID;
