-- What the Server is still to be told about tasks, in the order in which it happened.
CREATE TABLE farm_update (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    task_id BLOB NOT NULL,
    document TEXT NOT NULL
) STRICT;
CREATE INDEX farm_update_id ON farm_update (id);
CREATE INDEX farm_update_task ON farm_update (task_id);
