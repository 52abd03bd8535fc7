-- How the database does: partitions, sizes, metering, the slowest statements.

CREATE TRIGGER billing_sync_status_updated BEFORE UPDATE ON billing_sync_status
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- Where the server has it loaded and we may; a database that the customer runs does without.
DO $$
BEGIN
    IF current_setting('pg_stat_statements.max', true) IS NOT NULL THEN
        CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
    END IF;
EXCEPTION
    WHEN insufficient_privilege OR undefined_file OR feature_not_supported THEN
        RAISE NOTICE 'pg_stat_statements is left out: %', SQLERRM;
END $$;

CREATE VIEW health_partitions AS
SELECT parent.relname::text AS parent,
    count(child.oid) AS partitions,
    min(day) AS first_day,
    max(last_day) AS last_day,
    max(last_day) - (now() AT TIME ZONE 'UTC')::date AS days_ahead,
    coalesce(sum(pg_total_relation_size(child.oid)), 0)::bigint AS bytes
FROM pg_partitioned_table
JOIN pg_class AS parent ON parent.oid = partrelid
LEFT JOIN pg_inherits ON inhparent = parent.oid
LEFT JOIN pg_class AS child ON child.oid = inhrelid
CROSS JOIN LATERAL (SELECT substring(child.relname FROM '_([0-9]+)$') AS digits) AS suffix
CROSS JOIN LATERAL (SELECT CASE WHEN length(digits) = 8 THEN to_date(digits, 'YYYYMMDD')
    WHEN length(digits) = 6 THEN to_date(digits, 'YYYYMM') END AS day) AS begins
CROSS JOIN LATERAL (SELECT CASE WHEN length(digits) = 8 THEN day
    WHEN length(digits) = 6 THEN (day + interval '1 month' - interval '1 day')::date END
    AS last_day) AS ends
WHERE parent.relnamespace = current_schema()::regnamespace
GROUP BY parent.relname;
COMMENT ON VIEW health_partitions IS 'days covered, and days that are made ahead; UTC';

CREATE VIEW health_tables AS
SELECT coalesce(parent.relname, stats.relname)::text AS name,
    sum(n_live_tup)::bigint AS rows_estimated,
    sum(n_dead_tup)::bigint AS dead_rows_estimated,
    sum(pg_total_relation_size(stats.relid))::bigint AS bytes,
    max(greatest(last_vacuum, last_autovacuum)) AS vacuumed_at,
    max(greatest(last_analyze, last_autoanalyze)) AS analyzed_at
FROM pg_stat_user_tables AS stats
LEFT JOIN pg_inherits ON inhrelid = stats.relid
LEFT JOIN pg_class AS parent ON parent.oid = inhparent
WHERE stats.schemaname = current_schema()
GROUP BY 1;
COMMENT ON VIEW health_tables IS 'partitions are counted with their table';

CREATE VIEW health_metering AS
SELECT status.last_attempt_at, status.last_reported_at, status.last_error_reason,
    (SELECT count(*) FROM usage_batches WHERE acknowledged_at IS NULL) AS batches_waiting,
    uuid7_time(least(
        (SELECT id FROM usage_events WHERE epoch IS NULL ORDER BY id LIMIT 1),
        (SELECT first_id FROM usage_batches WHERE acknowledged_at IS NULL
         ORDER BY first_id LIMIT 1))) AS oldest_waiting,
    (SELECT count(*) FROM usage_quarantined) AS set_aside
FROM billing_sync_status AS status;

-- The statements that took the most time; none where pg_stat_statements is not there or not loaded.
CREATE FUNCTION slowest_statements(most integer) RETURNS TABLE (
    statement text, calls bigint, total_ms double precision, mean_ms double precision, rows bigint)
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    IF to_regclass('pg_stat_statements') IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE
        'SELECT left(query, 200), calls, total_exec_time, mean_exec_time, rows
         FROM pg_stat_statements
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
         ORDER BY total_exec_time DESC LIMIT $1' USING most;
EXCEPTION
    WHEN object_not_in_prerequisite_state OR undefined_column OR insufficient_privilege THEN
        RETURN;
END $$;

CREATE VIEW health_statements AS SELECT * FROM slowest_statements(20);
