-- Limits of each billing period with what was used of them, and the alerts they raised.

CREATE TABLE usage_quotas (
    tenant_id     text NOT NULL REFERENCES billing_customers,
    meter         text NOT NULL,
    -- The billing period, UTC midnights; the end is exclusive.
    period_start  timestamptz NOT NULL,
    period_end    timestamptz NOT NULL CHECK (period_end > period_start),
    -- A level: its newest value counts, and no period ends it.
    gauge         boolean NOT NULL,
    -- NULL: unlimited. All quantities are in the meter's unit.
    included      numeric,
    -- What comes beyond it: nothing to end, a charge, a refusal in a while, a refusal at once; or
    -- the customer has not bought what the meter belongs to.
    ending        text NOT NULL
        CHECK (ending IN ('unlimited', 'overage', 'soft', 'hard', 'not_bought')),
    -- Use never passes it; NULL: no end.
    ceiling       numeric,
    -- How long use may stay above what is included; NULL: for ever.
    over_for      interval,
    used          numeric NOT NULL,
    -- The newest event of a gauge.
    last_id       uuid,
    over_since    timestamptz,
    -- Highest percentage that was told of in this period.
    alerted       integer NOT NULL DEFAULT 0,
    -- Price list, terms and anchor that the limits were compiled from.
    compiled_from text NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, meter, period_start)
) WITH (fillfactor = 50);  -- one row is updated again and again: room for its versions

CREATE TABLE usage_alerts (
    tenant_id    text NOT NULL,
    meter        text NOT NULL,
    period_start timestamptz NOT NULL,
    percent      integer NOT NULL,
    used         numeric NOT NULL,
    included     numeric NOT NULL,
    at           timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, meter, period_start, percent),
    FOREIGN KEY (tenant_id) REFERENCES billing_customers
);

-- Amounts that a customer wants to hear of.
CREATE TABLE cost_alerts (
    tenant_id  text NOT NULL REFERENCES billing_customers,
    id         uuid NOT NULL,
    -- Minor units of the customer's currency, before tax.
    amount     bigint NOT NULL CHECK (amount > 0),
    basis      text NOT NULL CHECK (basis IN ('so_far', 'projected')),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, amount, basis)
);

DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['usage_quotas', 'usage_alerts', 'cost_alerts'] LOOP
        CALL protect_tenant_table(wanted::regclass);
        CALL admit_worker(wanted::regclass);
        EXECUTE format(
            'CREATE POLICY admin_all ON %I TO brinkbyte_admin USING (true) WITH CHECK (true)',
            wanted);
        EXECUTE format('GRANT SELECT, INSERT ON %I TO brinkbyte_api, brinkbyte_worker, '
                       'brinkbyte_admin', wanted);
    END LOOP;
END $$;
GRANT UPDATE, DELETE ON usage_quotas TO brinkbyte_api, brinkbyte_worker, brinkbyte_admin;
GRANT DELETE ON cost_alerts TO brinkbyte_api, brinkbyte_admin;
-- The worker finds out whom to look after.
CREATE POLICY worker_read ON cost_alerts FOR SELECT TO brinkbyte_worker USING (true);

-- What limits are compiled from, short; NULL without a subscription.
CREATE FUNCTION quota_source(catalog text, terms jsonb, anchor timestamptz) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT md5(concat_ws('|', catalog, terms::text, extract(epoch FROM anchor)::text)) $$;

-- The billing period that holds a moment: months from the subscription's anchor, the last day of
-- a shorter month; without a subscription the UTC calendar month.
CREATE FUNCTION billing_period(tenant_id text, moment timestamptz) RETURNS tstzrange
    LANGUAGE sql STABLE
    AS $$
        WITH anchor AS (
            SELECT coalesce(
                (SELECT s.period_anchor AT TIME ZONE 'UTC' FROM subscriptions s
                 WHERE s.tenant_id = billing_period.tenant_id AND s.ended_at IS NULL),
                date_trunc('month', billing_period.moment AT TIME ZONE 'UTC')) AS day
        ), counted AS (
            SELECT day, (extract(year FROM wanted) - extract(year FROM day)) * 12
                + extract(month FROM wanted) - extract(month FROM day) AS months, wanted
            FROM anchor, (SELECT billing_period.moment AT TIME ZONE 'UTC' AS wanted) AS w
        ), started AS (
            SELECT day, months::integer
                - CASE WHEN day + make_interval(months => months::integer) > wanted
                       THEN 1 ELSE 0 END AS months
            FROM counted
        )
        SELECT tstzrange(
            (day + make_interval(months => months)) AT TIME ZONE 'UTC',
            (day + make_interval(months => months + 1)) AT TIME ZONE 'UTC')
        FROM started
    $$;

-- What was used of a meter. period: 'current', 'previous', or a date (UTC): the billing period that
-- holds it. A counter's sum; a gauge's newest value. From the ledger's sums, so always exact.
CREATE FUNCTION get_current_usage(tenant_id text, metric text, period text DEFAULT 'current')
    RETURNS numeric
    LANGUAGE sql STABLE
    AS $$
        WITH wanted AS (
            SELECT CASE get_current_usage.period
                WHEN 'current' THEN billing_period(get_current_usage.tenant_id, now())
                WHEN 'previous' THEN billing_period(get_current_usage.tenant_id,
                    lower(billing_period(get_current_usage.tenant_id, now())) - interval '1 day')
                ELSE billing_period(get_current_usage.tenant_id,
                    get_current_usage.period::date::timestamp AT TIME ZONE 'UTC')
                END AS span
        )
        SELECT coalesce(CASE
            WHEN (SELECT q.gauge FROM usage_quotas q
                  WHERE q.tenant_id = get_current_usage.tenant_id AND q.meter = metric
                  ORDER BY q.period_start DESC LIMIT 1)
            THEN (SELECT a.last_quantity FROM usage_aggregates a
                  WHERE a.tenant_id = get_current_usage.tenant_id AND a.grain = 'day'
                  AND a.meter = metric AND a.bucket < upper(span) ORDER BY a.bucket DESC LIMIT 1)
            ELSE (SELECT sum(a.quantity) FROM usage_aggregates a
                  WHERE a.tenant_id = get_current_usage.tenant_id AND a.grain = 'day'
                  AND a.meter = metric AND a.bucket >= lower(span) AND a.bucket < upper(span))
            END, 0)
        FROM wanted
    $$;

-- Percent of what is included that was used in this billing period; NULL: unlimited or not limited.
CREATE FUNCTION get_usage_percentage(tenant_id text, metric text) RETURNS numeric
    LANGUAGE sql STABLE
    AS $$
        SELECT CASE
            WHEN q.included > 0 THEN round(used * 100 / q.included, 2)
            WHEN q.included = 0 AND used > 0 THEN 'Infinity'::numeric
            WHEN q.included = 0 THEN 0
            END
        FROM (SELECT q.included FROM usage_quotas q
              WHERE q.tenant_id = get_usage_percentage.tenant_id AND q.meter = metric
              ORDER BY q.period_start DESC LIMIT 1) AS q,
             get_current_usage(get_usage_percentage.tenant_id, metric, 'current') AS used
    $$;

-- Whether more was used in this billing period than is included.
CREATE FUNCTION is_over_quota(tenant_id text, metric text) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$ SELECT coalesce(get_usage_percentage(is_over_quota.tenant_id, metric) > 100, false) $$;

DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY[
        'quota_source(text, jsonb, timestamptz)', 'billing_period(text, timestamptz)',
        'get_current_usage(text, text, text)', 'get_usage_percentage(text, text)',
        'is_over_quota(text, text)'] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', wanted);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO brinkbyte_api, brinkbyte_worker, '
                       'brinkbyte_admin', wanted);
    END LOOP;
END $$;
