-- The tasks that an endpoint has finished with an error, for lists of them. The others are not in it.
CREATE INDEX task_failed ON task (task_type, id) WHERE has_failed = 1;
