-- Followed tasks that have ended, and that those who follow them have not looked at yet: small, whatever the ledger holds.
CREATE TABLE ended (
    task_id BINARY(16) NOT NULL,
    PRIMARY KEY (task_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
