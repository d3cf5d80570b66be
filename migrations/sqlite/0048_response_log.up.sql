-- The end of what the handler of a response has logged while it runs: `length` bytes there were in all, and `next_line` lines in the attempt that
-- logged last.
CREATE TABLE response_log (
    task_id BLOB NOT NULL,
    endpoint TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    next_line INTEGER NOT NULL,
    length INTEGER NOT NULL,
    tail TEXT NOT NULL,
    last_modified_time INTEGER NOT NULL,
    PRIMARY KEY (task_id, endpoint)
) STRICT;
