-- A change of signing keys is a rollout: what each instance has seen, and who signed what it holds.
ALTER TABLE instances
    -- Since when it says that it holds seen_key_set_number.
    ADD COLUMN key_set_seen_at timestamptz,
    -- Newest call with its credential, whatever it was about.
    ADD COLUMN last_contact_at timestamptz,
    -- The newest bundle that was made for it (air gap): its key set, who signed it, its end.
    ADD COLUMN bundle_key_set_number bigint,
    ADD COLUMN bundle_key_ids text[] NOT NULL DEFAULT '{}',
    ADD COLUMN bundle_expires_at timestamptz;

-- Thumbprint of the key that signed the token.
ALTER TABLE licenses ADD COLUMN key_id text;
ALTER TABLE seats ADD COLUMN key_id text;

-- Tokens of before say it in their header. (Forced row security hides all rows from the owner too.)
CREATE FUNCTION token_key_id(token text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT
    AS $$
        SELECT CASE WHEN token ~ '^eyJ[A-Za-z0-9_-]+\.' THEN
            convert_from(decode(
                translate(split_part(token, '.', 1), '-_', '+/')
                    || repeat('=', (4 - length(split_part(token, '.', 1)) % 4) % 4),
                'base64'), 'UTF8')::jsonb ->> 'kid'
        END
    $$;
ALTER TABLE licenses NO FORCE ROW LEVEL SECURITY;
UPDATE licenses SET key_id = token_key_id(token);
ALTER TABLE licenses FORCE ROW LEVEL SECURITY;
ALTER TABLE seats NO FORCE ROW LEVEL SECURITY;
UPDATE seats SET key_id = token_key_id(token) WHERE token IS NOT NULL;
ALTER TABLE seats FORCE ROW LEVEL SECURITY;
DROP FUNCTION token_key_id;
