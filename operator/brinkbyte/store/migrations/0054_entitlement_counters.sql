-- What the vendor's own services have used of each meter, counted where the license is checked.

CREATE TABLE entitlement_counters (
    tenant_id text NOT NULL,
    meter text NOT NULL,
    period_ends_at timestamptz NOT NULL,
    used numeric(24, 9) NOT NULL CHECK (used >= 0),
    over_since timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, meter, period_ends_at)
) WITH (fillfactor = 50);  -- one row is updated again and again: room for its versions
COMMENT ON TABLE entitlement_counters IS
    'one row per meter and billing period: a few hundred a year, kept';
COMMENT ON COLUMN entitlement_counters.period_ends_at IS
    'end of the billing period; infinity: a gauge, whose level no period ends';
COMMENT ON COLUMN entitlement_counters.over_since IS
    'when use passed what is included; null while it has not';
CREATE TRIGGER entitlement_counters_updated BEFORE UPDATE ON entitlement_counters
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- Whether use may become so much. ceiling null: no end. over_for null: no end to being over.
CREATE FUNCTION entitlement_fits(
    used numeric, included numeric, ceiling numeric, over_since timestamptz, over_for interval
) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$ SELECT (ceiling IS NULL OR used <= ceiling)
        AND NOT coalesce(used > included AND over_since <= now() - over_for, false) $$;
