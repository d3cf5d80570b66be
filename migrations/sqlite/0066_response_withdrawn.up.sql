-- When a rollout took the task back from an endpoint that was not known to have received it. NULL for all others.
ALTER TABLE response ADD COLUMN withdrawn_at INTEGER NULL;
