-- Whether an endpoint has finished the task with an error, as a column that a key can have.
ALTER TABLE task ADD COLUMN has_failed TINYINT GENERATED ALWAYS AS (failed > 0) VIRTUAL;
