-- Product lines whose meters the bearer may report; those made before could report all.
ALTER TABLE operator_credentials ADD COLUMN families text[] NOT NULL DEFAULT '{}';
UPDATE operator_credentials SET families = ARRAY['vision', 'fleet', 'platform'];

CREATE OR REPLACE FUNCTION find_credential(wanted bytea)
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
        SELECT NULL, o.credential_id, 'operator', NULL, o.scopes, o.families,
               o.expires_at, o.revoked_at, NULL
        FROM public.operator_credentials o
        WHERE o.secret_hash = wanted
    $$;

-- Changes that are no customer's.
CREATE TABLE own_audit_log (
    id      uuid PRIMARY KEY,
    at      timestamptz NOT NULL,
    actor   text NOT NULL,
    action  text NOT NULL,
    subject text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}'
);
GRANT SELECT, INSERT ON own_audit_log TO brinkbyte_admin;
