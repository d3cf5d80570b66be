-- What became of tasks, by minute and by hour: kept longer than the tasks.
CREATE TABLE throughput (
    step INTEGER NOT NULL,
    begins_at INTEGER NOT NULL,
    task_type TEXT NOT NULL,
    accepted INTEGER NOT NULL,
    done INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    canceled INTEGER NOT NULL,
    expired INTEGER NOT NULL,
    answers INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    PRIMARY KEY (step, begins_at, task_type)
) STRICT, WITHOUT ROWID;
