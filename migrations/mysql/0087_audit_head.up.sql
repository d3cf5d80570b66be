-- The end of that chain, locked by whoever adds to it; and up to when submissions are accounted for in it.
CREATE TABLE audit_head (
    id TINYINT UNSIGNED NOT NULL,
    seq BIGINT NOT NULL,
    hash BINARY(32) NOT NULL,
    submissions_until DATETIME(6) NULL,
    PRIMARY KEY (id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, UNHEX(REPEAT('00', 32)));
