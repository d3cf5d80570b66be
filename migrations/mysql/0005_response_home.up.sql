-- `home` is the endpoint's memory that has the task: what another process of the same name must not be asked for again.
-- `run` is the execution that decided, `doubled` whether a second one claimed to have.
ALTER TABLE response
    ADD COLUMN home BINARY(16) NULL,
    ADD COLUMN run BINARY(16) NULL,
    ADD COLUMN doubled BOOLEAN NOT NULL DEFAULT FALSE;
