-- Ended rows lie behind NULL in the order of their tasks; now also in that of their answers within a task. The entry moves anyway when a row ends, so this
-- costs no write of its own.
ALTER TABLE response DROP KEY response_owed, ADD KEY response_owed (owed_to, task_id, answer);
