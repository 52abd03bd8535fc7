-- What the cameras saw: events by day of their own time, and their hourly sums.

CREATE TABLE telemetry_events (
    tenant_id text NOT NULL,
    occurred_at timestamptz NOT NULL,
    id uuid NOT NULL,
    camera_id text NOT NULL,
    hardware_id text NOT NULL,
    kind text NOT NULL,
    label text NOT NULL DEFAULT '',
    track_id text,
    zone text,
    score real,
    attributes jsonb NOT NULL DEFAULT '{}',
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, occurred_at, id)
) PARTITION BY RANGE (occurred_at);
CREATE INDEX telemetry_events_camera ON telemetry_events (tenant_id, camera_id, occurred_at);

-- Makes the partition of an instant's day (UTC) and returns its name. ATTACH, unlike CREATE TABLE
-- … PARTITION OF, lets other sessions go on inserting.
CREATE FUNCTION ensure_telemetry_partition(at timestamptz) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    day date := (at AT TIME ZONE 'UTC')::date;
    partition_name text := 'telemetry_events_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF to_regclass(partition_name) IS NOT NULL THEN
        RETURN partition_name;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('brinkbyte.telemetry_partitions', 0));
    -- A query, as it takes a fresh snapshot: to_regclass may remember that there was no such table.
    IF EXISTS (SELECT FROM pg_class WHERE relname = partition_name
               AND relnamespace = current_schema()::regnamespace) THEN
        RETURN partition_name;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE telemetry_events INCLUDING ALL EXCLUDING INDEXES)',
        partition_name);
    EXECUTE format('ALTER TABLE telemetry_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        partition_name, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
    RETURN partition_name;
END $$;

CREATE TABLE telemetry_aggregates (
    tenant_id text NOT NULL,
    bucket timestamptz NOT NULL,
    camera_id text NOT NULL,
    kind text NOT NULL,
    label text NOT NULL,
    events bigint NOT NULL,
    score_sum double precision NOT NULL DEFAULT 0,
    scored bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, bucket, camera_id, kind, label)
);
COMMENT ON TABLE telemetry_aggregates IS
    'sums by hour of occurred_at, kept in the transaction that inserts the events';
CREATE TRIGGER telemetry_aggregates_updated BEFORE UPDATE ON telemetry_aggregates
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();
