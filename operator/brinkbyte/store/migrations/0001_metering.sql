-- The metering outbox: events, the epochs and batches they are sealed into, and what came back.

-- Time of a UUIDv7: its first 48 bits are Unix milliseconds.
CREATE FUNCTION uuid7_time(id uuid) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT to_timestamp(
        ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0::float8) $$;

-- Smallest UUIDv7 of an instant's millisecond: the bound of a partition.
CREATE FUNCTION uuid7_first(at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0')
        || '70008000000000000000')::uuid $$;

CREATE TABLE usage_events (
    id uuid PRIMARY KEY,
    event text NOT NULL,
    meter text NOT NULL,
    quantity numeric(24, 9) NOT NULL,
    camera_id text,
    hardware_id text,
    epoch uuid,
    batch_no bigint,
    CONSTRAINT usage_events_batch CHECK ((epoch IS NULL) = (batch_no IS NULL))
) PARTITION BY RANGE (id);
COMMENT ON COLUMN usage_events.event IS 'RFC 8785 JSON, the bytes that are hashed and sent';
COMMENT ON COLUMN usage_events.epoch IS 'null: not sealed yet';
CREATE INDEX usage_events_unsealed ON usage_events (id) WHERE epoch IS NULL;

-- Makes the partition of an instant's month (UTC) and returns its name. ATTACH, unlike CREATE
-- TABLE … PARTITION OF, lets other sessions go on inserting.
CREATE FUNCTION ensure_usage_partition(at timestamptz) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    first_day timestamptz := date_trunc('month', at, 'UTC');
    next_month timestamptz := (date_trunc('month', at AT TIME ZONE 'UTC') + interval '1 month')
        AT TIME ZONE 'UTC';
    partition_name text := 'usage_events_' || to_char(at AT TIME ZONE 'UTC', 'YYYYMM');
BEGIN
    IF to_regclass(partition_name) IS NOT NULL THEN
        RETURN partition_name;
    END IF;
    -- One maker at a time, without stopping inserts. A table lock, since taking one also takes in
    -- what others have made meanwhile (an advisory lock does not).
    LOCK TABLE usage_events IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass(partition_name) IS NOT NULL THEN
        RETURN partition_name;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE usage_events INCLUDING ALL EXCLUDING INDEXES)',
        partition_name);
    EXECUTE format('ALTER TABLE usage_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        partition_name, uuid7_first(first_day), uuid7_first(next_month));
    RETURN partition_name;
END $$;

CREATE FUNCTION record_usage_events(
    ids uuid[], events text[], meters text[], quantities numeric[], cameras text[], devices text[]
) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM ensure_usage_partition(month)
        FROM (SELECT DISTINCT date_trunc('month', uuid7_time(id), 'UTC') AS month
              FROM unnest(ids) AS id) AS months
        ORDER BY month;
    INSERT INTO usage_events (id, event, meter, quantity, camera_id, hardware_id)
        SELECT * FROM unnest(ids, events, meters, quantities, cameras, devices);
END $$;

-- Ahead of need: later months are made by the reporter, or by the first event of one.
SELECT ensure_usage_partition(now() + make_interval(months => ahead))
    FROM generate_series(0, 2) AS ahead;

CREATE TABLE usage_epochs (
    epoch uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    instance text NOT NULL,
    follows text,
    previous_hash text NOT NULL,
    reason text NOT NULL,
    resealed bigint NOT NULL DEFAULT 0,
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
);
COMMENT ON TABLE usage_epochs IS
    'chains of batches; the newest of an instance is the live one. previous_hash goes into batch 1';

CREATE TABLE usage_batches (
    epoch uuid NOT NULL REFERENCES usage_epochs,
    batch_no bigint NOT NULL CHECK (batch_no > 0),
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    instance text NOT NULL,
    count integer NOT NULL CHECK (count BETWEEN 1 AND 1000),
    first_id uuid NOT NULL,
    follows text,
    previous_hash text NOT NULL,
    chain_hash text NOT NULL UNIQUE,
    header text NOT NULL,
    payload bytea NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT now(),
    acknowledged_at timestamptz,
    receipt text,
    PRIMARY KEY (epoch, batch_no),
    CONSTRAINT usage_batches_receipt CHECK ((acknowledged_at IS NULL) = (receipt IS NULL))
);
COMMENT ON COLUMN usage_batches.position IS 'order of sealing, over all epochs';
COMMENT ON COLUMN usage_batches.first_id IS 'its oldest event';
COMMENT ON COLUMN usage_batches.header IS 'compact JWS by the instance key';
CREATE INDEX usage_batches_previous ON usage_batches (previous_hash);
CREATE INDEX usage_batches_pending ON usage_batches (position) WHERE acknowledged_at IS NULL;
CREATE INDEX usage_batches_acknowledged ON usage_batches (acknowledged_at, position);

CREATE TABLE usage_quarantined (
    event_id uuid PRIMARY KEY,
    reason text NOT NULL,
    epoch uuid NOT NULL,
    batch_no bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE usage_quarantined IS 'events that the ledger set aside, as its receipts say';

CREATE TABLE billing_sync_status (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    last_attempt_at timestamptz,
    last_reported_at timestamptz,
    last_receipt text,
    last_error_reason text,
    last_error_message text,
    last_error_at timestamptz,
    epochs_opened bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO billing_sync_status DEFAULT VALUES;

CREATE TABLE idempotency_keys (
    credential text NOT NULL,
    key text NOT NULL,
    request_hash text NOT NULL,
    response_status integer,
    response_body bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (credential, key),
    CONSTRAINT idempotency_keys_answer
        CHECK ((response_status IS NULL) = (response_body IS NULL))
);
COMMENT ON COLUMN idempotency_keys.credential IS 'id of the credential, never the secret';
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);
