-- Who may use the API. Of the secret only its SHA-256 is kept.
CREATE TABLE token (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    hash BLOB NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    task_types TEXT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NULL
) STRICT;
