DROP TABLE rollout_hold;
