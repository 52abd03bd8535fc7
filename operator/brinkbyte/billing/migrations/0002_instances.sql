CREATE TABLE instances (
    tenant_id            text NOT NULL REFERENCES billing_customers,
    instance_id          text NOT NULL,
    name                 text NOT NULL,
    uid                  text NOT NULL,
    cluster_fingerprint  text NOT NULL,
    version              text NOT NULL,
    -- Thumbprint of the key pair that tokens are cut for.
    key_id               text NOT NULL,
    -- Grows with every change that an inventory made.
    inventory_revision   bigint NOT NULL DEFAULT 0,
    created_at           timestamptz NOT NULL,
    ended_at             timestamptz,
    ended_reason         text,
    last_seen_at         timestamptz,
    seen_version         text,
    seen_fingerprint     text,
    seen_key_set_number  bigint,
    seen_license_sequence bigint,
    devices_online       integer,
    backlog              bigint,
    -- A batch came for a closed epoch, or from a second database: a copy may be running.
    clone_alarm_at       timestamptz,
    PRIMARY KEY (tenant_id, instance_id)
);
CREATE UNIQUE INDEX instances_live ON instances (tenant_id) WHERE ended_at IS NULL;

CREATE TABLE instance_keys (
    tenant_id     text NOT NULL,
    instance_id   text NOT NULL,
    key_id        text NOT NULL,
    jwk           jsonb NOT NULL,
    registered_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, instance_id, key_id),
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances
);

-- API secrets: only an HMAC of each is here.
CREATE TABLE credentials (
    tenant_id     text NOT NULL REFERENCES billing_customers,
    credential_id uuid NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('instance', 'enrollment')),
    instance_id   text,
    secret_hash   bytea NOT NULL CHECK (length(secret_hash) = 32),
    scopes        text[] NOT NULL,
    -- Product lines whose meters the bearer may report.
    families      text[] NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    revoked_at    timestamptz,
    PRIMARY KEY (tenant_id, credential_id),
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances,
    CHECK ((kind = 'instance') = (instance_id IS NOT NULL))
);
CREATE UNIQUE INDEX credentials_secret ON credentials (tenant_id, secret_hash);
CREATE INDEX credentials_lookup ON credentials (secret_hash);
CREATE INDEX credentials_instance ON credentials (tenant_id, instance_id);

-- One-time tokens; the secret is the credential of the same id.
CREATE TABLE enrollments (
    tenant_id     text NOT NULL,
    credential_id uuid NOT NULL,
    -- May end a live instance on another cluster.
    replace       boolean NOT NULL,
    created_at    timestamptz NOT NULL,
    used_at       timestamptz,
    used_key_id   text,
    instance_id   text,
    PRIMARY KEY (tenant_id, credential_id),
    FOREIGN KEY (tenant_id, credential_id) REFERENCES credentials,
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances
);

-- Credentials of the vendor's own people and programs; no tenant's.
CREATE TABLE operator_credentials (
    credential_id uuid PRIMARY KEY,
    name          text NOT NULL,
    secret_hash   bytea NOT NULL UNIQUE CHECK (length(secret_hash) = 32),
    scopes        text[] NOT NULL,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    revoked_at    timestamptz
);

CALL protect_tenant_table('instances');
CALL protect_tenant_table('instance_keys');
CALL protect_tenant_table('credentials');
CALL protect_tenant_table('enrollments');

GRANT SELECT, INSERT, UPDATE ON instances, instance_keys, credentials, enrollments
    TO brinkbyte_api, brinkbyte_admin;
GRANT SELECT, INSERT, UPDATE ON operator_credentials TO brinkbyte_admin;

CREATE POLICY admin_all ON instances TO brinkbyte_admin USING (true) WITH CHECK (true);
CREATE POLICY admin_all ON instance_keys TO brinkbyte_admin USING (true) WITH CHECK (true);
CREATE POLICY admin_all ON credentials TO brinkbyte_admin USING (true) WITH CHECK (true);
CREATE POLICY admin_all ON enrollments TO brinkbyte_admin USING (true) WITH CHECK (true);

-- The only function that looks across tenants: from the HMAC of a secret to whose it is.
CREATE POLICY lookup ON credentials FOR SELECT TO brinkbyte_owner USING (true);
CREATE POLICY lookup ON instances FOR SELECT TO brinkbyte_owner USING (true);
CREATE FUNCTION find_credential(wanted bytea)
    RETURNS TABLE (
        tenant_id text, credential_id uuid, kind text, instance_id text, scopes text[],
        families text[], expires_at timestamptz, revoked_at timestamptz,
        instance_ended_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT c.tenant_id, c.credential_id, c.kind, c.instance_id, c.scopes, c.families,
               c.expires_at, c.revoked_at, i.ended_at
        FROM public.credentials c
        LEFT JOIN public.instances i
            ON i.tenant_id = c.tenant_id AND i.instance_id = c.instance_id
        WHERE c.secret_hash = wanted
        UNION ALL
        SELECT NULL, o.credential_id, 'operator', NULL, o.scopes, '{}',
               o.expires_at, o.revoked_at, NULL
        FROM public.operator_credentials o
        WHERE o.secret_hash = wanted
    $$;
REVOKE EXECUTE ON FUNCTION find_credential FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_credential TO brinkbyte_api;
