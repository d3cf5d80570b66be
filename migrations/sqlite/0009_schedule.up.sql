-- Up to when the times of a schedule have been submitted.
CREATE TABLE schedule (
    name TEXT NOT NULL PRIMARY KEY,
    done_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
