-- What the signed documents say, in rows: for dashboards and SQL. Nothing is ever decided by them,
-- and whatever is changed here by hand is overwritten when the documents change.

CREATE TABLE camera_licenses (
    tenant_id text NOT NULL,
    camera_id text NOT NULL,
    hardware_id text NOT NULL,
    mode text NOT NULL,
    packs text[] NOT NULL,
    until timestamptz,
    seats_sequence bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, camera_id)
);
COMMENT ON TABLE camera_licenses IS 'cache of the signed list of seats';
COMMENT ON COLUMN camera_licenses.until IS 'end of a trial seat';
CREATE TRIGGER camera_licenses_updated BEFORE UPDATE ON camera_licenses
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

CREATE TABLE feature_entitlements (
    tenant_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('flag', 'limit', 'quota', 'model', 'analytic', 'output')),
    feature text NOT NULL,
    enabled boolean NOT NULL,
    amount bigint,
    license_sequence bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kind, feature)
);
COMMENT ON TABLE feature_entitlements IS 'cache of what the license in force allows the tenant';
COMMENT ON COLUMN feature_entitlements.amount IS 'of a limit or quota; null: no limit';
CREATE TRIGGER feature_entitlements_updated BEFORE UPDATE ON feature_entitlements
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

CREATE TABLE growth_pack_features (
    tenant_id text NOT NULL,
    pack text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('model', 'analytic', 'output')),
    feature text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, pack, kind, feature)
);
COMMENT ON TABLE growth_pack_features IS
    'what each pack adds to a camera: as signed, else by the catalog; base: every seat has it';

CREATE VIEW camera_entitlements AS
SELECT held.tenant_id, held.camera_id, added.kind, added.feature, min(added.pack) AS pack
FROM camera_licenses AS held
JOIN growth_pack_features AS added
  ON added.tenant_id = held.tenant_id AND (added.pack = 'base' OR added.pack = ANY (held.packs))
WHERE held.until IS NULL OR held.until > now()
GROUP BY held.tenant_id, held.camera_id, added.kind, added.feature;
COMMENT ON VIEW camera_entitlements IS 'what each camera''s seat allows while the license is in force';
