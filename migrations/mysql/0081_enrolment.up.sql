-- Endpoints with a broker user of their own, and those that are invited to get one: ticket and sealed are there until it is fetched.
CREATE TABLE enrolment (
    endpoint VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    task_types TEXT NULL,
    generation INT UNSIGNED NOT NULL,
    invited_at DATETIME(6) NOT NULL,
    ticket BINARY(32) NULL,
    sealed BLOB NULL,
    expires_at DATETIME(6) NULL,
    enrolled_at DATETIME(6) NULL,
    revoked_at DATETIME(6) NULL,
    PRIMARY KEY (endpoint),
    UNIQUE KEY enrolment_ticket (ticket)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
