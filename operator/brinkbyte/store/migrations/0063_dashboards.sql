-- What dashboards read. Materialized views are refreshed by the instance every few minutes, by one
-- replica at a time and without keeping readers out, which needs their unique indexes.

CREATE MATERIALIZED VIEW telemetry_daily AS
SELECT tenant_id, date_trunc('day', bucket, 'UTC') AS day, camera_id, kind, label,
    sum(events)::bigint AS events,
    CASE WHEN sum(scored) > 0 THEN sum(score_sum) / sum(scored) END AS mean_score
FROM telemetry_aggregates
GROUP BY 1, 2, 3, 4, 5;
CREATE UNIQUE INDEX telemetry_daily_key ON telemetry_daily (tenant_id, day, camera_id, kind, label);

CREATE MATERIALIZED VIEW camera_activity AS
SELECT tenant_id, camera_id,
    coalesce(sum(events) FILTER (WHERE bucket >= now() - interval '1 day'), 0)::bigint
        AS events_last_day,
    coalesce(sum(events) FILTER (WHERE bucket >= now() - interval '7 days'), 0)::bigint
        AS events_last_week,
    sum(events)::bigint AS events_kept,
    max(bucket) AS last_hour
FROM telemetry_aggregates
GROUP BY 1, 2;
CREATE UNIQUE INDEX camera_activity_key ON camera_activity (tenant_id, camera_id);

CREATE MATERIALIZED VIEW usage_daily AS
SELECT date_trunc('day', uuid7_time(id), 'UTC') AS day, meter, count(*) AS events,
    sum(quantity) AS quantity
FROM usage_events
GROUP BY 1, 2;
CREATE UNIQUE INDEX usage_daily_key ON usage_daily (day, meter);

CREATE VIEW usage_monthly AS
SELECT date_trunc('month', day, 'UTC') AS month, meter, sum(events)::bigint AS events,
    sum(quantity) AS quantity
FROM usage_daily
GROUP BY 1, 2;
COMMENT ON VIEW usage_monthly IS 'by calendar month, UTC, as of the last refresh';

CREATE VIEW usage_this_month AS
SELECT meter, count(*) AS events, sum(quantity) AS quantity
FROM usage_events
WHERE id >= uuid7_first(date_trunc('month', now(), 'UTC'))
GROUP BY meter;
COMMENT ON VIEW usage_this_month IS 'by calendar month, UTC, as of now';

CREATE VIEW usage_against_quotas AS
SELECT quota.tenant_id, quota.feature AS meter, coalesce(used.quantity, 0) AS quantity,
    quota.amount AS included,
    CASE WHEN quota.amount > 0
         THEN round(100 * coalesce(used.quantity, 0) / quota.amount, 1) END AS percent
FROM feature_entitlements AS quota
LEFT JOIN usage_this_month AS used ON used.meter = quota.feature
WHERE quota.kind = 'quota';

CREATE TABLE view_refreshes (
    name text PRIMARY KEY,
    refreshed_at timestamptz NOT NULL,
    seconds double precision NOT NULL
);
COMMENT ON TABLE view_refreshes IS 'when each materialized view was refreshed, and how long it took';
