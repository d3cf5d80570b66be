DROP INDEX task_failed;
