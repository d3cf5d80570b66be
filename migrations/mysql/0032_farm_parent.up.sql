-- Which tasks have to be completed before a task. `met` when the parent is, or is not known here.
CREATE TABLE farm_parent (
    task_id VARBINARY(16) NOT NULL,
    parent_id VARBINARY(16) NOT NULL,
    met BOOLEAN NOT NULL,
    PRIMARY KEY (task_id, parent_id),
    KEY farm_parent_children (parent_id, task_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
