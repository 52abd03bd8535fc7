-- Signed license documents, the audit of what was decided by them, and the instance's own state.

CREATE FUNCTION set_updated_at() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;

CREATE TABLE license_documents (
    tenant_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('keyset', 'revocations', 'license', 'seats')),
    sequence bigint NOT NULL,
    document text NOT NULL,
    source text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kind)
);
COMMENT ON TABLE license_documents IS
    'the newest verified document of each kind; verified again whenever it is read';
CREATE TRIGGER license_documents_updated BEFORE UPDATE ON license_documents
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

CREATE TABLE license_validation_log (
    tenant_id text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT now(),
    subject_kind text NOT NULL,
    subject text NOT NULL,
    allowed boolean NOT NULL,
    mode text NOT NULL,
    reason text NOT NULL,
    message text NOT NULL,
    tier text NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
COMMENT ON TABLE license_validation_log IS
    'audit: cameras validated, documents taken in or refused, changes of mode';
CREATE INDEX license_validation_log_at ON license_validation_log (tenant_id, at);

CREATE TABLE system_config (
    tenant_id text NOT NULL,
    key text NOT NULL,
    value jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key)
);
COMMENT ON TABLE system_config IS 'key-value state of the instance: offline clock, retention, refresh';
CREATE TRIGGER system_config_updated BEFORE UPDATE ON system_config
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();
