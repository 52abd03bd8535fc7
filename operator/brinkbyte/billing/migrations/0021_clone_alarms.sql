-- Clusters that an instance was seen in; more than one at a time: it was copied.
CREATE TABLE instance_clusters (
    tenant_id     text NOT NULL,
    instance_id   text NOT NULL,
    fingerprint   text NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, instance_id, fingerprint),
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances
);

CREATE TABLE clone_alarms (
    tenant_id       text NOT NULL,
    id              uuid NOT NULL,
    instance_id     text NOT NULL,
    reason          text NOT NULL CHECK (reason IN ('TwoClusters', 'TwoEpochs')),
    -- Who was there, and who came; details say when each was seen and what was refused.
    first_party     text NOT NULL,
    second_party    text NOT NULL,
    details         jsonb NOT NULL DEFAULT '{}',
    raised_at       timestamptz NOT NULL,
    last_seen_at    timestamptz NOT NULL,
    times           bigint NOT NULL DEFAULT 1,
    acknowledged_at timestamptz,
    acknowledged_by text,
    note            text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances
);
-- One open alarm a cause; seen again it is counted.
CREATE UNIQUE INDEX clone_alarms_open ON clone_alarms (tenant_id, instance_id, reason)
    WHERE acknowledged_at IS NULL;

CALL protect_tenant_table('instance_clusters');
CALL protect_tenant_table('clone_alarms');
GRANT SELECT, INSERT, UPDATE ON instance_clusters, clone_alarms TO brinkbyte_api;
GRANT SELECT, UPDATE ON clone_alarms TO brinkbyte_admin;
GRANT SELECT ON instance_clusters TO brinkbyte_admin;
CREATE POLICY admin_all ON clone_alarms TO brinkbyte_admin USING (true) WITH CHECK (true);
CREATE POLICY admin_read ON instance_clusters FOR SELECT TO brinkbyte_admin USING (true);

-- Alarms of before, of which only the time is known. (Forced row security hides all rows from
-- the owner too.)
ALTER TABLE instances NO FORCE ROW LEVEL SECURITY;
ALTER TABLE clone_alarms NO FORCE ROW LEVEL SECURITY;
INSERT INTO clone_alarms (tenant_id, id, instance_id, reason, first_party, second_party,
                          raised_at, last_seen_at)
    SELECT tenant_id, gen_random_uuid(), instance_id, 'TwoEpochs', 'unknown', 'unknown',
           clone_alarm_at, clone_alarm_at
    FROM instances WHERE clone_alarm_at IS NOT NULL;
ALTER TABLE instances FORCE ROW LEVEL SECURITY;
ALTER TABLE clone_alarms FORCE ROW LEVEL SECURITY;
