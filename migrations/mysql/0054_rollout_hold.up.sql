-- Which rollout has an endpoint in flight, for each lane: no other of the lane starts it meanwhile. A row goes when its target has answered.
CREATE TABLE rollout_hold (
    lane VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    endpoint VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    rollout BINARY(16) NOT NULL,
    since DATETIME(6) NOT NULL,
    PRIMARY KEY (lane, endpoint),
    KEY rollout_hold_rollout (rollout)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
