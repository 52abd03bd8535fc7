-- A site without a line: its instance never calls, its requests come as files.
ALTER TABLE instances ADD COLUMN air_gapped boolean NOT NULL DEFAULT false;
-- When the newest request was made, by the clock of the site; an older one is not answered.
ALTER TABLE instances ADD COLUMN requested_at timestamptz;

-- What was answered, so that the same request gets the same bundle: the text itself is made anew.
CREATE TABLE bundles (
    tenant_id    text NOT NULL,
    instance_id  text NOT NULL,
    sequence     bigint NOT NULL,
    request_id   text NOT NULL,
    content_hash bytea NOT NULL,
    issued_at    timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, instance_id, sequence),
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances
);

CALL protect_tenant_table('bundles');
CREATE POLICY admin_all ON bundles TO brinkbyte_admin USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON bundles TO brinkbyte_admin;
GRANT SELECT ON bundles TO brinkbyte_api;
