DROP INDEX rollout_ended ON rollout;
