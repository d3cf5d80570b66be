ALTER TABLE response DROP KEY response_owed, ADD KEY response_owed (owed_to, task_id);
