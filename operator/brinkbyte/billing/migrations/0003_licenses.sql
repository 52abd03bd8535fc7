-- What the customer's cluster declares, by the name of the resource.
CREATE TABLE devices (
    tenant_id       text NOT NULL REFERENCES billing_customers,
    name            text NOT NULL,
    uid             text NOT NULL,
    hardware_id     text NOT NULL,
    management_tier text NOT NULL CHECK (management_tier IN ('basic', 'managed')),
    site            text NOT NULL DEFAULT '',
    declared_at     timestamptz NOT NULL,
    -- Set while it counts against the limit.
    registered_at   timestamptz,
    reason          text NOT NULL,
    PRIMARY KEY (tenant_id, name)
);
CREATE UNIQUE INDEX devices_registered ON devices (tenant_id, hardware_id)
    WHERE registered_at IS NOT NULL;

CREATE TABLE camera_requests (
    tenant_id    text NOT NULL REFERENCES billing_customers,
    name         text NOT NULL,
    uid          text NOT NULL,
    camera_id    text NOT NULL,
    hardware_id  text NOT NULL,
    mode         text NOT NULL CHECK (mode IN ('base', 'trial')),
    growth_packs text[] NOT NULL,
    declared_at  timestamptz NOT NULL,
    reason       text NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

CREATE TABLE seats (
    tenant_id       text NOT NULL REFERENCES billing_customers,
    camera_id       text NOT NULL,
    seat_id         text NOT NULL,
    request_name    text NOT NULL,
    hardware_id     text NOT NULL,
    mode            text NOT NULL CHECK (mode IN ('base', 'trial')),
    growth_packs    text[] NOT NULL,
    -- Units of each SKU that the seat occupies.
    skus            jsonb NOT NULL,
    taken_at        timestamptz NOT NULL,
    -- End of a trial seat.
    until           timestamptz,
    -- Set when freed: until then the seat waits for the same camera.
    held_until      timestamptz,
    camera_sequence bigint NOT NULL DEFAULT 0,
    token           text,
    content_hash    bytea,
    token_expires_at timestamptz,
    PRIMARY KEY (tenant_id, camera_id)
);
CREATE UNIQUE INDEX seats_id ON seats (tenant_id, seat_id);

-- A trial seat's time runs from its first use, whichever cameras use it.
CREATE TABLE trial_slots (
    tenant_id  text NOT NULL REFERENCES billing_customers,
    slot       integer NOT NULL,
    started_at timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    camera_id  text,
    PRIMARY KEY (tenant_id, slot)
);

CREATE TABLE seat_history (
    tenant_id   text NOT NULL REFERENCES billing_customers,
    id          uuid NOT NULL,
    at          timestamptz NOT NULL,
    camera_id   text NOT NULL,
    seat_id     text NOT NULL,
    action      text NOT NULL CHECK (action IN ('taken', 'retaken', 'moved', 'changed', 'freed')),
    hardware_id text NOT NULL,
    mode        text NOT NULL,
    growth_packs text[] NOT NULL,
    reason      text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX seat_history_camera ON seat_history (tenant_id, camera_id, id);

-- The newest document of each kind that was signed for a customer.
CREATE TABLE licenses (
    tenant_id        text NOT NULL REFERENCES billing_customers,
    kind             text NOT NULL CHECK (kind IN ('license', 'seats', 'revocations')),
    instance_id      text NOT NULL,
    sequence         bigint NOT NULL,
    -- Sequence at which the content last changed (a renewal only moves the end).
    content_sequence bigint NOT NULL,
    content_hash     bytea NOT NULL,
    token            text NOT NULL,
    issued_at        timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, kind),
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances
);

CREATE TABLE revocations (
    tenant_id  text NOT NULL REFERENCES billing_customers,
    kind       text NOT NULL CHECK (kind IN ('license', 'camera')),
    subject    text NOT NULL,
    up_to      bigint NOT NULL,
    reason     text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, kind, subject)
);

DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['devices', 'camera_requests', 'seats', 'trial_slots',
                                  'seat_history', 'licenses', 'revocations'] LOOP
        CALL protect_tenant_table(wanted::regclass);
        EXECUTE format(
            'CREATE POLICY admin_all ON %I TO brinkbyte_admin USING (true) WITH CHECK (true)',
            wanted);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON devices, camera_requests, seats
    TO brinkbyte_api, brinkbyte_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON revocations TO brinkbyte_admin;
GRANT SELECT ON revocations TO brinkbyte_api;
GRANT SELECT, INSERT, UPDATE ON trial_slots, licenses TO brinkbyte_api, brinkbyte_admin;
GRANT SELECT, INSERT ON seat_history TO brinkbyte_api, brinkbyte_admin;
