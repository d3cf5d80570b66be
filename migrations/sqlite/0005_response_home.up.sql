-- `home` is the endpoint's memory that has the task: what another process of the same name must not be asked for again.
-- `run` is the execution that decided, `doubled` whether a second one claimed to have.
ALTER TABLE response ADD COLUMN home BLOB NULL;
ALTER TABLE response ADD COLUMN run BLOB NULL;
ALTER TABLE response ADD COLUMN doubled INTEGER NOT NULL DEFAULT 0;
