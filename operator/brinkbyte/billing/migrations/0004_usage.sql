-- The ledger: nobody may update or delete. Ranges of the UUIDv7 itself, one a month.
CREATE TABLE usage_events (
    tenant_id    text NOT NULL,
    id           uuid NOT NULL,
    occurred_at  timestamptz NOT NULL,
    meter        text NOT NULL,
    family       text NOT NULL,
    quantity     numeric(24, 9) NOT NULL CHECK (quantity >= 0),
    cost         numeric(24, 9),
    key          text,
    camera_id    text,
    hardware_id  text,
    attributes   jsonb NOT NULL,
    content_hash bytea NOT NULL,
    instance_id  text NOT NULL,
    -- NULL when the event was reported without a sealed batch.
    epoch        uuid,
    batch_no     bigint,
    received_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
) PARTITION BY RANGE (id);

CREATE TABLE usage_epochs (
    tenant_id       text NOT NULL,
    epoch           uuid NOT NULL,
    instance_id     text NOT NULL,
    state           text NOT NULL CHECK (state IN ('open', 'closed')),
    follows         uuid,
    last_batch_no   bigint NOT NULL,
    last_chain_hash bytea NOT NULL,
    opened_at       timestamptz NOT NULL,
    closed_at       timestamptz,
    PRIMARY KEY (tenant_id, epoch),
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances
);
CREATE UNIQUE INDEX usage_epochs_open ON usage_epochs (tenant_id, instance_id)
    WHERE state = 'open';

CREATE TABLE usage_batches (
    tenant_id      text NOT NULL,
    epoch          uuid NOT NULL,
    batch_no       bigint NOT NULL,
    instance_id    text NOT NULL,
    count          integer NOT NULL,
    inserted       integer NOT NULL,
    quarantined    integer NOT NULL,
    payload_sha256 bytea NOT NULL,
    previous_hash  bytea NOT NULL,
    chain_hash     bytea NOT NULL,
    header         text NOT NULL,
    receipt        text NOT NULL,
    received_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, epoch, batch_no),
    FOREIGN KEY (tenant_id, epoch) REFERENCES usage_epochs
);

-- Events set aside, each alone; released once the cause is fixed.
CREATE TABLE usage_quarantine (
    tenant_id   text NOT NULL,
    id          uuid NOT NULL,
    instance_id text NOT NULL,
    epoch       uuid,
    batch_no    bigint,
    position    integer NOT NULL,
    event_id    text NOT NULL,
    reason      text NOT NULL,
    -- The bytes as they were signed.
    event       bytea NOT NULL,
    received_at timestamptz NOT NULL,
    released_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX usage_quarantine_batch ON usage_quarantine (tenant_id, epoch, batch_no);

CREATE TABLE usage_aggregates (
    tenant_id     text NOT NULL,
    grain         text NOT NULL CHECK (grain IN ('minute', 'hour', 'day')),
    meter         text NOT NULL,
    bucket        timestamptz NOT NULL,
    quantity      numeric NOT NULL,
    events        bigint NOT NULL,
    -- Sum of the costs that the events carry (pass-through meters).
    cost          numeric NOT NULL DEFAULT 0,
    -- Newest event: a gauge's value.
    last_quantity numeric NOT NULL,
    last_id       uuid NOT NULL,
    PRIMARY KEY (tenant_id, grain, meter, bucket)
);

DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['usage_events', 'usage_epochs', 'usage_batches',
                                  'usage_quarantine', 'usage_aggregates'] LOOP
        CALL protect_tenant_table(wanted::regclass);
        EXECUTE format(
            'CREATE POLICY admin_read ON %I FOR SELECT TO brinkbyte_admin USING (true)', wanted);
    END LOOP;
END $$;

GRANT SELECT, INSERT ON usage_events, usage_batches TO brinkbyte_api;
GRANT SELECT, INSERT, UPDATE ON usage_epochs, usage_aggregates TO brinkbyte_api;
GRANT SELECT, INSERT ON usage_quarantine TO brinkbyte_api;
GRANT UPDATE (released_at) ON usage_quarantine TO brinkbyte_api;
GRANT SELECT ON usage_events, usage_batches, usage_epochs, usage_quarantine, usage_aggregates
    TO brinkbyte_admin;
GRANT SELECT ON usage_aggregates TO brinkbyte_worker;
CREATE POLICY worker_read ON usage_aggregates FOR SELECT TO brinkbyte_worker USING (true);

-- Smallest UUIDv7 of a point in time.
CREATE FUNCTION first_uuid7(moment timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
        SELECT (left(digits, 8) || '-' || right(digits, 4) || '-7000-8000-000000000000')::uuid
        FROM lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') AS digits
    $$;

-- Creates the ledger's missing monthly partitions from one moment to another, both included.
-- Nobody has a grant on a partition; rows are reached through usage_events alone.
CREATE FUNCTION ensure_usage_partitions(first timestamptz, last timestamptz) RETURNS integer
    LANGUAGE plpgsql AS $$
DECLARE
    month   timestamp := date_trunc('month', first AT TIME ZONE 'UTC');
    name    text;
    created integer := 0;
BEGIN
    WHILE month <= last AT TIME ZONE 'UTC' LOOP
        name := 'usage_events_' || to_char(month, 'YYYYMM');
        IF to_regclass('public.' || name) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF usage_events FOR VALUES FROM (%L) TO (%L)', name,
                first_uuid7(month AT TIME ZONE 'UTC'),
                first_uuid7((month + interval '1 month') AT TIME ZONE 'UTC'));
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
            EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
            created := created + 1;
        END IF;
        month := month + interval '1 month';
    END LOOP;
    RETURN created;
END $$;
REVOKE EXECUTE ON FUNCTION ensure_usage_partitions FROM PUBLIC;
