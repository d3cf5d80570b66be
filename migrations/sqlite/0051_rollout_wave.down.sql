DROP TABLE rollout_wave;
