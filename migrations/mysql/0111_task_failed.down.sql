ALTER TABLE task DROP KEY task_failed;
