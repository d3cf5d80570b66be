-- Groups of endpoints: selectors under a name.
CREATE TABLE endpoint_group (
    name TEXT NOT NULL PRIMARY KEY,
    selector TEXT NOT NULL,
    changed_by TEXT NULL,
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
