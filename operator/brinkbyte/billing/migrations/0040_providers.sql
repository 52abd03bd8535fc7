-- Payment providers: how far each final invoice has come there, and what they told us.

-- Where invoices go; a provider that sends them needs it.
ALTER TABLE billing_customers ADD COLUMN billing_email text
    CHECK (length(billing_email) BETWEEN 3 AND 254);

-- The provider's own id of a customer.
CREATE TABLE provider_customers (
    tenant_id  text NOT NULL REFERENCES billing_customers,
    provider   text NOT NULL,
    reference  text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, provider)
);

-- One final invoice on its way to the provider and back.
CREATE TABLE provider_invoices (
    tenant_id   text NOT NULL,
    invoice_id  uuid NOT NULL,
    provider    text NOT NULL,
    -- What is sent as the due date: the same in each try, until it has passed.
    due_at      timestamptz NOT NULL,
    -- Before the first call; then before each one.
    started_at  timestamptz NOT NULL,
    tried_at    timestamptz NOT NULL,
    failures    integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL,
    -- Reason of a refusal that somebody must look at.
    alarm       text,
    reference   text,
    state       text CHECK (state IN ('draft', 'open', 'paid', 'uncollectible', 'void')),
    url         text,
    -- When the provider's copy was read; null: it shall be read now.
    checked_at  timestamptz,
    PRIMARY KEY (tenant_id, invoice_id),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoices
);
-- Look-up of what an event is about, across tenants.
CREATE INDEX provider_invoices_reference ON provider_invoices (provider, reference);

-- The provider that needs no account: what a real one would keep.
CREATE TABLE local_invoices (
    tenant_id  text NOT NULL REFERENCES billing_customers,
    invoice_id uuid NOT NULL,
    number     text NOT NULL,
    currency   text NOT NULL,
    total      bigint NOT NULL,
    state      text NOT NULL CHECK (state IN ('open', 'paid', 'uncollectible', 'void')),
    due_at     timestamptz NOT NULL,
    paid_at    timestamptz,
    note       text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id)
);
CREATE INDEX local_invoices_updated ON local_invoices (updated_at);

CREATE TABLE local_subscriptions (
    tenant_id            text NOT NULL REFERENCES billing_customers,
    price_id             text NOT NULL,
    trial_ends_at        timestamptz,
    cancel_at_period_end boolean NOT NULL DEFAULT false,
    canceled_at          timestamptz,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    PRIMARY KEY (tenant_id)
);

DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['provider_customers', 'provider_invoices', 'local_invoices',
                                  'local_subscriptions'] LOOP
        CALL protect_tenant_table(wanted::regclass);
        CALL admit_worker(wanted::regclass);
        EXECUTE format(
            'CREATE POLICY admin_all ON %I TO brinkbyte_admin USING (true) WITH CHECK (true)',
            wanted);
        EXECUTE format('GRANT SELECT ON %I TO brinkbyte_api, brinkbyte_admin', wanted);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO brinkbyte_worker', wanted);
    END LOOP;
    -- The worker finds across tenants what is to be done; it does it as one tenant at a time.
    FOREACH wanted IN ARRAY ARRAY['invoices', 'provider_invoices', 'local_invoices'] LOOP
        EXECUTE format(
            'CREATE POLICY worker_finds ON %I FOR SELECT TO brinkbyte_worker USING (true)', wanted);
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = 'public'
                   AND tablename = 'audit_log' AND policyname = 'worker_tenant') THEN
        CALL admit_worker('audit_log');
    END IF;
END $$;
CREATE INDEX invoices_not_at_provider ON invoices (finalized_at)
    WHERE provider_ref IS NULL AND status IN ('open', 'void');
CREATE INDEX invoices_unpaid ON invoices (provider) WHERE status IN ('open', 'uncollectible');

-- The vendor records payments, and asks for another look.
GRANT UPDATE (state, paid_at, note, updated_at) ON local_invoices TO brinkbyte_admin;
GRANT UPDATE (checked_at, next_try_at, alarm) ON provider_invoices TO brinkbyte_admin;
-- What the provider did to a customer's invoice is in the customer's audit log.
GRANT INSERT ON audit_log TO brinkbyte_worker;

-- What providers told us, and the vendor's alone: ids and kinds, nothing of a customer's. The api
-- role puts in and cannot read, not even what it put in.
CREATE TABLE webhook_events (
    provider     text NOT NULL,
    event_id     text NOT NULL,
    kind         text NOT NULL,
    object_id    text NOT NULL,
    created_at   timestamptz NOT NULL,
    received_at  timestamptz NOT NULL,
    -- Delivered, or fetched from the provider as it was not.
    fetched      boolean NOT NULL DEFAULT false,
    processed_at timestamptz,
    outcome      text,
    PRIMARY KEY (provider, event_id)
);
CREATE INDEX webhook_events_waiting ON webhook_events (received_at) WHERE processed_at IS NULL;
CREATE INDEX webhook_events_received ON webhook_events (received_at);
GRANT INSERT (provider, event_id, kind, object_id, created_at, received_at)
    ON webhook_events TO brinkbyte_api;
GRANT SELECT, INSERT, DELETE ON webhook_events TO brinkbyte_worker;
GRANT UPDATE (processed_at, outcome) ON webhook_events TO brinkbyte_worker;
GRANT SELECT ON webhook_events TO brinkbyte_admin;

-- Up to when a provider's events have been fetched.
CREATE TABLE provider_cursors (
    provider   text PRIMARY KEY,
    fetched_to timestamptz NOT NULL,
    fetched_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE ON provider_cursors TO brinkbyte_worker;
GRANT SELECT ON provider_cursors TO brinkbyte_admin;
