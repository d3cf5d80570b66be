-- Which endpoint takes tasks of which type.
CREATE TABLE subscription (
    endpoint TEXT NOT NULL,
    task_type TEXT NOT NULL,
    state INTEGER NOT NULL,
    instance BLOB NOT NULL,
    session BLOB NOT NULL,
    seen_until INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    PRIMARY KEY (endpoint, task_type)
) STRICT, WITHOUT ROWID;
CREATE INDEX subscription_type ON subscription (task_type, state, endpoint);
