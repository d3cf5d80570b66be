DROP INDEX rollout_ended;
