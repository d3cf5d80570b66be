-- Endpoints with a broker user of their own, and those that are invited to get one: ticket and sealed are there until it is fetched.
CREATE TABLE enrolment (
    endpoint TEXT NOT NULL,
    task_types TEXT NULL,
    generation INTEGER NOT NULL,
    invited_at INTEGER NOT NULL,
    ticket BLOB NULL,
    sealed BLOB NULL,
    expires_at INTEGER NULL,
    enrolled_at INTEGER NULL,
    revoked_at INTEGER NULL,
    PRIMARY KEY (endpoint),
    UNIQUE (ticket)
) STRICT, WITHOUT ROWID;
