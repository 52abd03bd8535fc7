-- Gauges that are the sum of parts, and the one snapshot a day of every gauge of the site.

CREATE TABLE usage_levels (
    tenant_id text NOT NULL,
    meter text NOT NULL,
    part text NOT NULL CHECK (part <> ''),
    quantity numeric(24, 9) NOT NULL CHECK (quantity >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, meter, part)
);
COMMENT ON TABLE usage_levels IS
    'what is held of a gauge, part by part: of storage the database and what services have told';
CREATE TRIGGER usage_levels_updated BEFORE UPDATE ON usage_levels
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

CREATE TABLE usage_snapshots (
    tenant_id text NOT NULL,
    meter text NOT NULL,
    day date NOT NULL,
    event_id uuid NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, meter, day)
);
COMMENT ON TABLE usage_snapshots IS 'the UTC days whose level of a gauge is in the outbox: once each';
