DROP TABLE rollout_event;
