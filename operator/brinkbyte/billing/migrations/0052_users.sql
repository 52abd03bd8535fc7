-- A customer's people. An e-mail address may belong to several customers.
CREATE TABLE tenant_users (
    tenant_id     text NOT NULL REFERENCES billing_customers,
    user_id       uuid NOT NULL,
    -- As it is written to, in lower case.
    email         text NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
    -- HMAC of it, by which a person is looked up who signs in.
    email_hash    bytea NOT NULL CHECK (length(email_hash) = 32),
    name          text NOT NULL DEFAULT '' CHECK (length(name) <= 100),
    role          text NOT NULL CHECK (role IN ('owner', 'billing', 'viewer')),
    -- scrypt$<log2 n>$<r>$<p>$<salt>$<hash>; null: signs in by links alone.
    password_hash text,
    created_at    timestamptz NOT NULL,
    created_by    text NOT NULL,
    -- Since when the address is known to be theirs.
    verified_at   timestamptz,
    removed_at    timestamptz,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE UNIQUE INDEX tenant_users_email ON tenant_users (tenant_id, email_hash)
    WHERE removed_at IS NULL;
CREATE INDEX tenant_users_lookup ON tenant_users (email_hash) WHERE removed_at IS NULL;

CREATE TABLE user_sessions (
    tenant_id    text NOT NULL,
    session_id   uuid NOT NULL,
    user_id      uuid NOT NULL,
    secret_hash  bytea NOT NULL CHECK (length(secret_hash) = 32),
    via          text NOT NULL CHECK (via IN ('password', 'link')),
    -- What the browser called itself.
    agent        text NOT NULL,
    created_at   timestamptz NOT NULL,
    seen_at      timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    PRIMARY KEY (tenant_id, session_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES tenant_users
);
CREATE UNIQUE INDEX user_sessions_secret ON user_sessions (tenant_id, secret_hash);
CREATE INDEX user_sessions_lookup ON user_sessions (secret_hash);
CREATE INDEX user_sessions_user ON user_sessions (tenant_id, user_id);

-- Invitations and sign-in links: good once.
CREATE TABLE user_links (
    tenant_id   text NOT NULL,
    link_id     uuid NOT NULL,
    user_id     uuid NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('invitation', 'sign_in')),
    secret_hash bytea NOT NULL CHECK (length(secret_hash) = 32),
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz,
    PRIMARY KEY (tenant_id, link_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES tenant_users
);
CREATE UNIQUE INDEX user_links_secret ON user_links (tenant_id, secret_hash);
CREATE INDEX user_links_lookup ON user_links (secret_hash);
CREATE INDEX user_links_user ON user_links (tenant_id, user_id);

-- Guesses by HMAC of the address, known here or not; no tenant's.
CREATE TABLE sign_in_attempts (
    subject    bytea PRIMARY KEY CHECK (length(subject) = 32),
    failures   integer NOT NULL,
    last_at    timestamptz NOT NULL
);
CREATE INDEX sign_in_attempts_age ON sign_in_attempts (last_at);
GRANT SELECT, INSERT, UPDATE, DELETE ON sign_in_attempts TO brinkbyte_api;

DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['tenant_users', 'user_sessions', 'user_links'] LOOP
        CALL protect_tenant_table(wanted::regclass);
        EXECUTE format(
            'CREATE POLICY admin_all ON %I TO brinkbyte_admin USING (true) WITH CHECK (true)',
            wanted);
        EXECUTE format(
            'CREATE POLICY lookup ON %I FOR SELECT TO brinkbyte_owner USING (true)', wanted);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO brinkbyte_api, brinkbyte_admin',
                       wanted);
    END LOOP;
END $$;

-- What has long ended goes.
GRANT DELETE ON user_sessions, user_links TO brinkbyte_api;
-- Whom to write to; no password hashes.
CALL admit_worker('tenant_users');
GRANT SELECT (tenant_id, user_id, email, name, role, verified_at, removed_at) ON tenant_users
    TO brinkbyte_worker;

-- Still the only function that looks across tenants; programs first, so that their calls cost one
-- look-up. In PL/pgSQL plans are kept.
DROP FUNCTION find_credential(bytea);
CREATE FUNCTION find_credential(wanted bytea)
    RETURNS TABLE (
        tenant_id text, credential_id uuid, kind text, instance_id text, scopes text[],
        families text[], expires_at timestamptz, revoked_at timestamptz,
        instance_ended_at timestamptz, user_id uuid, seen_at timestamptz)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
    #variable_conflict use_column
    BEGIN
        RETURN QUERY
            SELECT c.tenant_id, c.credential_id, c.kind, c.instance_id, c.scopes, c.families,
                   c.expires_at, c.revoked_at, i.ended_at, NULL::uuid, NULL::timestamptz
            FROM public.credentials c
            LEFT JOIN public.instances i
                ON i.tenant_id = c.tenant_id AND i.instance_id = c.instance_id
            WHERE c.secret_hash = wanted;
        IF FOUND THEN RETURN; END IF;
        RETURN QUERY
            SELECT NULL::text, o.credential_id, 'operator', NULL::text, o.scopes, o.families,
                   o.expires_at, o.revoked_at, NULL::timestamptz, NULL::uuid, NULL::timestamptz
            FROM public.operator_credentials o
            WHERE o.secret_hash = wanted;
        IF FOUND THEN RETURN; END IF;
        -- A session's scopes are its person's role.
        RETURN QUERY
            SELECT s.tenant_id, s.session_id, 'session', NULL::text, ARRAY[u.role], '{}'::text[],
                   s.expires_at, coalesce(s.ended_at, u.removed_at), NULL::timestamptz,
                   s.user_id, s.seen_at
            FROM public.user_sessions s
            JOIN public.tenant_users u ON u.tenant_id = s.tenant_id AND u.user_id = s.user_id
            WHERE s.secret_hash = wanted;
        IF FOUND THEN RETURN; END IF;
        RETURN QUERY
            SELECT l.tenant_id, l.link_id, 'link', NULL::text, ARRAY[l.kind], '{}'::text[],
                   l.expires_at, coalesce(l.used_at, u.removed_at), NULL::timestamptz,
                   l.user_id, NULL::timestamptz
            FROM public.user_links l
            JOIN public.tenant_users u ON u.tenant_id = l.tenant_id AND u.user_id = l.user_id
            WHERE l.secret_hash = wanted;
        IF FOUND THEN RETURN; END IF;
        -- By the HMAC of an e-mail address: whose it is, each time a customer's.
        RETURN QUERY
            SELECT u.tenant_id, u.user_id, 'account', NULL::text, ARRAY[u.role], '{}'::text[],
                   '9999-12-31'::timestamptz, NULL::timestamptz, NULL::timestamptz,
                   u.user_id, NULL::timestamptz
            FROM public.tenant_users u
            WHERE u.email_hash = wanted AND u.removed_at IS NULL
            ORDER BY u.created_at
            LIMIT 20;
    END $$;
REVOKE EXECUTE ON FUNCTION find_credential FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_credential TO brinkbyte_api;
