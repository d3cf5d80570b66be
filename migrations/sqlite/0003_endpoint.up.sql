-- Endpoints ever seen.
CREATE TABLE endpoint (
    name TEXT NOT NULL PRIMARY KEY,
    version TEXT NOT NULL,
    last_seen INTEGER NOT NULL
) STRICT;
