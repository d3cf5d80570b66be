-- Followed tasks that have ended, as on MySQL.
CREATE TABLE ended (
    task_id BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
