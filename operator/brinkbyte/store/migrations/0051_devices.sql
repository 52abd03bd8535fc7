-- Edge devices as the instance sees them: online while a heartbeat came within 90 seconds.

CREATE TABLE edge_devices (
    tenant_id text NOT NULL,
    hardware_id text NOT NULL,
    name text NOT NULL,
    management_tier text NOT NULL,
    registered_at timestamptz NOT NULL,
    online boolean NOT NULL DEFAULT false,
    last_seen timestamptz,
    revision bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, hardware_id)
);
COMMENT ON COLUMN edge_devices.revision IS
    'number of the last change of online; grows over all devices, at least the Unix microsecond';
CREATE INDEX edge_devices_revision ON edge_devices (tenant_id, revision);
CREATE INDEX edge_devices_last_seen ON edge_devices (tenant_id, last_seen) WHERE online;
CREATE TRIGGER edge_devices_updated BEFORE UPDATE ON edge_devices
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- The next revision. Its lock is held until the caller commits, so revisions become visible in
-- order: who has seen one has seen every lower one.
CREATE FUNCTION next_device_revision(tenant text) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    newest bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('brinkbyte.device_revision.' || tenant, 0));
    SELECT coalesce(max(revision), 0) INTO newest FROM edge_devices WHERE tenant_id = tenant;
    RETURN greatest(newest + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
END $$;
