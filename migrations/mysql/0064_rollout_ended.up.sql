-- For forgetting rollouts that ended long ago.
CREATE INDEX rollout_ended ON rollout (ended_at);
