-- What subscriptions and invoices need beside the tables in which everything meets.

ALTER TABLE subscriptions
    -- The next boundary between two periods that invoices are to be made for.
    ADD COLUMN next_boundary timestamptz,
    -- When the row will say something else by itself (a period's, a trial's or a term's end).
    ADD COLUMN projected_until timestamptz;
-- What was there before was invoiced elsewhere up to the end of the period that runs.
ALTER TABLE subscriptions NO FORCE ROW LEVEL SECURITY;
UPDATE subscriptions s SET projected_until = now(), next_boundary = (
    SELECT min(b.boundary) FROM (
        SELECT (s.period_anchor AT TIME ZONE 'UTC' + make_interval(months => n)) AT TIME ZONE 'UTC'
            AS boundary
        FROM generate_series(0, 1200) AS n) AS b
    WHERE b.boundary > now());
ALTER TABLE subscriptions FORCE ROW LEVEL SECURITY;
ALTER TABLE subscriptions ALTER COLUMN next_boundary SET NOT NULL;
CREATE INDEX subscriptions_due ON subscriptions (next_boundary);

-- A correction of the vendor's own: what was wanted holds at once, whatever is charged.
ALTER TABLE subscription_changes ADD COLUMN at_once boolean NOT NULL DEFAULT false;
CREATE INDEX subscription_changes_order ON subscription_changes (tenant_id, subscription_id, at, id);

-- Own values agreed with a customer, before or beside what the customer then buys.
CREATE TABLE agreed_values (
    tenant_id      text PRIMARY KEY REFERENCES billing_customers,
    -- catalog.Terms.overrides
    overrides      jsonb NOT NULL,
    -- Off twelve months that are paid ahead; NULL: as the price list says.
    annual_percent numeric CHECK (annual_percent BETWEEN 0 AND 100),
    updated_at     timestamptz NOT NULL
);

-- Periods that were rated, with the usage that was: a later difference is an adjustment.
CREATE TABLE closed_periods (
    tenant_id       text NOT NULL,
    subscription_id uuid NOT NULL,
    period_start    timestamptz NOT NULL,
    period_end      timestamptz NOT NULL,
    catalog_version text NOT NULL,
    -- By meter: {quantity, cost, events}, as it was rated last.
    usage           jsonb NOT NULL,
    closed_at       timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, period_start),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscriptions
);

ALTER TABLE invoice_lines
    -- Which part of rating said the line, and of which period (its start).
    ADD COLUMN part text NOT NULL DEFAULT 'closing'
        CHECK (part IN ('opening', 'closing', 'adjustment', 'balance')),
    ADD COLUMN of_period timestamptz;
CREATE INDEX invoice_lines_of_period ON invoice_lines (tenant_id, of_period);
CREATE INDEX invoices_newest ON invoices (tenant_id, boundary DESC, invoice_id DESC);
-- A payment of it failed, first then.
ALTER TABLE invoices ADD COLUMN payment_failed_at timestamptz;

DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['agreed_values', 'closed_periods'] LOOP
        CALL protect_tenant_table(wanted::regclass);
        CALL admit_worker(wanted::regclass);
        EXECUTE format(
            'CREATE POLICY admin_all ON %I TO brinkbyte_admin USING (true) WITH CHECK (true)',
            wanted);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO brinkbyte_api, brinkbyte_worker, '
                       'brinkbyte_admin', wanted);
    END LOOP;
    -- The worker writes what it works on, one tenant at a time.
    FOREACH wanted IN ARRAY ARRAY['billing_customers', 'subscriptions', 'audit_log'] LOOP
        IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = 'public' AND tablename = wanted
                       AND policyname = 'worker_tenant') THEN
            CALL admit_worker(wanted::regclass);
        END IF;
    END LOOP;
END $$;
-- Whose invoices are unpaid is asked across customers.
CREATE POLICY worker_read ON invoices FOR SELECT TO brinkbyte_worker USING (true);
CREATE INDEX invoices_overdue ON invoices (due_at)
    WHERE status = 'open' AND payment_failed_at IS NULL;
GRANT UPDATE ON subscriptions TO brinkbyte_worker;
-- Whoever may change one column may lock the row.
GRANT UPDATE (updated_at) ON billing_customers TO brinkbyte_worker;
GRANT INSERT ON audit_log TO brinkbyte_worker;
