-- One way to make a day's partition, for every table that is kept by the day.

-- Makes the partition of an instant's day (UTC) and returns its name. The parent stays locked until
-- the caller commits; whoever drops a partition needs that lock for itself alone, so what is found
-- here is still there when the caller's rows come. ATTACH, unlike CREATE TABLE … PARTITION OF, lets
-- other sessions go on inserting.
CREATE FUNCTION ensure_day_partition(parent text, at timestamptz) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    day date := (at AT TIME ZONE 'UTC')::date;
    partition_name text := parent || '_' || to_char(day, 'YYYYMMDD');
BEGIN
    EXECUTE format('LOCK TABLE ONLY %I IN ROW EXCLUSIVE MODE', parent);
    IF to_regclass(partition_name) IS NOT NULL THEN
        RETURN partition_name;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('brinkbyte.partitions.' || parent, 0));
    -- A query, as it takes a fresh snapshot: to_regclass may remember that there was no such table.
    IF EXISTS (SELECT FROM pg_class WHERE relname = partition_name
               AND relnamespace = current_schema()::regnamespace) THEN
        RETURN partition_name;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL EXCLUDING INDEXES)',
        partition_name, parent);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        parent, partition_name,
        day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
    RETURN partition_name;
END $$;

CREATE OR REPLACE FUNCTION ensure_telemetry_partition(at timestamptz) RETURNS text
    LANGUAGE sql
    AS $$ SELECT ensure_day_partition('telemetry_events', at) $$;
