-- The version of messages that the process reads (src/domain/message.rs, WireVersion). One that does not say it reads the first.
ALTER TABLE subscription ADD COLUMN wire TINYINT UNSIGNED NOT NULL DEFAULT 1;
