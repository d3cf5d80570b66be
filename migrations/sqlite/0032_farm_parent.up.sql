-- Which tasks have to be completed before a task. `met` when the parent is, or is not known here.
CREATE TABLE farm_parent (
    task_id BLOB NOT NULL,
    parent_id BLOB NOT NULL,
    met INTEGER NOT NULL,
    PRIMARY KEY (task_id, parent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX farm_parent_children ON farm_parent (parent_id, task_id);
