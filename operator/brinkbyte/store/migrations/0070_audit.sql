-- The same decision met again and again is one row an hour, which counts.

ALTER TABLE license_validation_log
    ADD COLUMN times bigint NOT NULL DEFAULT 1 CHECK (times > 0),
    ADD COLUMN last_at timestamptz;
COMMENT ON COLUMN license_validation_log.times IS 'how often this was decided from at to last_at';
COMMENT ON COLUMN license_validation_log.last_at IS 'null: decided once';
