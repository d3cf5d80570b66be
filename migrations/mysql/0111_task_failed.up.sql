-- The tasks that an endpoint has finished with an error, for lists of them.
ALTER TABLE task ADD KEY task_failed (task_type, has_failed, id);
