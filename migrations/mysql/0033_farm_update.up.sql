-- What the Server is still to be told about tasks, in the order in which it happened.
CREATE TABLE farm_update (
    number BIGINT NOT NULL AUTO_INCREMENT,
    id VARBINARY(16) NOT NULL,
    task_id VARBINARY(16) NOT NULL,
    document MEDIUMTEXT NOT NULL,
    PRIMARY KEY (number),
    KEY farm_update_id (id),
    KEY farm_update_task (task_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
