-- Single values of a farm, and which of several managers does what only one may do, until when.
CREATE TABLE farm_note (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    until INTEGER NULL
) STRICT, WITHOUT ROWID;
