DROP TABLE rollout_target;
