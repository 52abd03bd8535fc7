-- Thumbnails of what the cameras saw, by day of their own time, and the site's free settings.

CREATE TABLE frames (
    tenant_id text NOT NULL,
    occurred_at timestamptz NOT NULL,
    id uuid NOT NULL,
    camera_id text NOT NULL,
    hardware_id text NOT NULL,
    media_type text NOT NULL,
    width integer CHECK (width > 0),
    height integer CHECK (height > 0),
    thumbnail bytea NOT NULL CHECK (octet_length(thumbnail) BETWEEN 1 AND 1048576),
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, occurred_at, id)
) PARTITION BY RANGE (occurred_at);
CREATE INDEX frames_camera ON frames (tenant_id, camera_id, occurred_at);
-- Pictures are compressed already.
ALTER TABLE frames ALTER COLUMN thumbnail SET STORAGE EXTERNAL;

CREATE TABLE config (
    tenant_id text NOT NULL,
    key text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 200),
    value jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key)
);
COMMENT ON TABLE config IS
    'free settings of the site, for its devices and services; the instance''s own are system_config';
CREATE TRIGGER config_updated BEFORE UPDATE ON config
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();
