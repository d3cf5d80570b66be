-- Requests: steps of jobs. Producers insert rows with the columns of the original (the first ten), so the others have defaults.
--
-- `status`: 0 Queuing, 1 Inprogress, 2 Completed, 3 Failed, 4 Canceled. `params`, `extras` and `steps` are texts: a producer that inserts
-- what is no JSON learns that from the request, which fails. `error` says why a request cannot complete. `due_at` is when to look at it next
-- for any reason; a row without one is looked at by the crons. `revision` counts how often its failed jobs were begun anew.
CREATE TABLE requests (
    token VARCHAR(191) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    request_token VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    action VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    params LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    extras LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    steps LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    step INT UNSIGNED NOT NULL DEFAULT 0,
    status TINYINT UNSIGNED NOT NULL DEFAULT 0,
    created DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    completed DATETIME(6) NULL,
    error MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    revision INT UNSIGNED NOT NULL DEFAULT 0,
    due_at DATETIME(6) NULL,
    expires_at DATETIME(6) NULL,
    PRIMARY KEY (token),
    KEY requests_list (created, token),
    KEY requests_state (status, created, token),
    KEY requests_action (action, created, token),
    KEY requests_due (status, due_at),
    KEY requests_end (completed)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
