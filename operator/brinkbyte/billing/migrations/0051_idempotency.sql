-- Answers of calls that carried an Idempotency-Key, for 48 hours. The key is kept as an HMAC, the
-- answer is sealed with what only the key's sender has: a copy of the database opens none.
CREATE TABLE idempotent_answers (
    tenant_id   text NOT NULL REFERENCES billing_customers,
    caller      text NOT NULL,
    key_hash    bytea NOT NULL CHECK (length(key_hash) = 32),
    -- SHA-256 of method, path and body.
    fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),
    answer      bytea,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, caller, key_hash)
);
CREATE INDEX idempotent_answers_age ON idempotent_answers (tenant_id, created_at);
CALL protect_tenant_table('idempotent_answers');
CREATE POLICY admin_all ON idempotent_answers TO brinkbyte_admin USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotent_answers TO brinkbyte_api;

-- Of the vendor's own callers, whose key counts across customers; no tenant's.
CREATE TABLE own_idempotent_answers (
    caller      text NOT NULL,
    key_hash    bytea NOT NULL CHECK (length(key_hash) = 32),
    fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),
    answer      bytea,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (caller, key_hash)
);
CREATE INDEX own_idempotent_answers_age ON own_idempotent_answers (created_at);
GRANT SELECT, INSERT, UPDATE, DELETE ON own_idempotent_answers TO brinkbyte_api;
