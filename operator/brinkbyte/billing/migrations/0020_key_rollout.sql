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

-- Key id in the header of a compact JWS; NULL for what is none.
CREATE FUNCTION token_key_id(token text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
        SELECT CASE WHEN token ~ '^eyJ[A-Za-z0-9_-]+\.' THEN
            convert_from(decode(
                translate(split_part(token, '.', 1), '-_', '+/')
                    || repeat('=', (4 - length(split_part(token, '.', 1)) % 4) % 4),
                'base64'), 'UTF8')::jsonb ->> 'kid'
        END
    $$;
REVOKE EXECUTE ON FUNCTION token_key_id FROM PUBLIC;
GRANT EXECUTE ON FUNCTION token_key_id TO brinkbyte_api, brinkbyte_admin;

ALTER TABLE licenses ADD COLUMN key_id text GENERATED ALWAYS AS (token_key_id(token)) STORED;
ALTER TABLE seats ADD COLUMN key_id text GENERATED ALWAYS AS (token_key_id(token)) STORED;
