-- Whom to tell of what, and what became of each telling.

CREATE TABLE notification_targets (
    tenant_id       text NOT NULL REFERENCES billing_customers,
    id              uuid NOT NULL,
    channel         text NOT NULL CHECK (channel IN ('email', 'webhook', 'sms')),
    address         text NOT NULL CHECK (length(address) BETWEEN 3 AND 2000),
    -- Empty: all kinds.
    kinds           text[] NOT NULL DEFAULT '{}',
    -- Only for what is meant for this one person, such as an invitation; nobody set it.
    direct          boolean NOT NULL DEFAULT false,
    -- Version of a webhook's signing secret, which is derived and nowhere stored; the one before
    -- signs too until it ends.
    secret_version  integer NOT NULL DEFAULT 1,
    previous_until  timestamptz,
    -- First failure since the last success.
    failing_since   timestamptz,
    disabled_at     timestamptz,
    disabled_reason text,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX notification_targets_address
    ON notification_targets (tenant_id, channel, md5(address));

CREATE TABLE notification_deliveries (
    tenant_id       text NOT NULL,
    notification_id uuid NOT NULL,
    target_id       uuid NOT NULL,
    state           text NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts        integer NOT NULL DEFAULT 0,
    -- The next try; while one runs, when it counts as lost.
    due_at          timestamptz NOT NULL,
    last_error      text,
    delivered_at    timestamptz,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, notification_id, target_id),
    FOREIGN KEY (tenant_id, notification_id) REFERENCES notifications,
    FOREIGN KEY (tenant_id, target_id) REFERENCES notification_targets ON DELETE CASCADE
);
CREATE INDEX notification_deliveries_due ON notification_deliveries (due_at)
    WHERE state = 'pending';
CREATE INDEX notification_deliveries_target ON notification_deliveries (tenant_id, target_id)
    WHERE state = 'pending';

DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['notification_targets', 'notification_deliveries'] LOOP
        CALL protect_tenant_table(wanted::regclass);
        CALL admit_worker(wanted::regclass);
        EXECUTE format(
            'CREATE POLICY admin_all ON %I TO brinkbyte_admin USING (true) WITH CHECK (true)',
            wanted);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO brinkbyte_api, brinkbyte_worker, '
                       'brinkbyte_admin', wanted);
    END LOOP;
    -- The worker writes into the audit log that a target was disabled.
    IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = 'audit_log'::regclass
                   AND polname = 'worker_tenant') THEN
        CALL admit_worker('audit_log');
        GRANT INSERT ON audit_log TO brinkbyte_worker;
    END IF;
END $$;
GRANT DELETE ON notification_targets, notification_deliveries TO brinkbyte_api, brinkbyte_admin;
-- The worker finds out whose deliveries are due.
CREATE POLICY worker_read ON notification_deliveries FOR SELECT TO brinkbyte_worker USING (true);
