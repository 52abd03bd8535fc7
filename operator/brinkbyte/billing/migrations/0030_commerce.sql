-- Tables in which subscriptions, rating, providers and notifications meet.

-- Policy of the worker: one tenant at a time, as the api role has it.
CREATE PROCEDURE admit_worker(wanted regclass)
    LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE POLICY worker_tenant ON %s TO brinkbyte_worker '
        'USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant())', wanted);
END $$;
REVOKE EXECUTE ON PROCEDURE admit_worker FROM PUBLIC;

-- API keys of a customer, for the customer's own programs.
ALTER TABLE credentials DROP CONSTRAINT credentials_kind_check;
ALTER TABLE credentials ADD CONSTRAINT credentials_kind_check
    CHECK (kind IN ('instance', 'enrollment', 'tenant'));

-- How a customer pays: rating.Agreement.
ALTER TABLE subscriptions ADD COLUMN agreement jsonb NOT NULL DEFAULT '{}';

-- Every change of a subscription, for ever: what invoices are rated from.
CREATE TABLE subscription_changes (
    tenant_id       text NOT NULL,
    id              uuid NOT NULL,
    subscription_id uuid NOT NULL,
    at              timestamptz NOT NULL,
    actor           text NOT NULL,
    reason          text NOT NULL,
    terms           jsonb NOT NULL,
    status          text NOT NULL,
    agreement       jsonb NOT NULL DEFAULT '{}',
    ends_at         timestamptz,
    trial_ends_at   timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscriptions
);
-- A subscription of before is as if it had been made with what it has now.
ALTER TABLE subscriptions NO FORCE ROW LEVEL SECURITY;
INSERT INTO subscription_changes (tenant_id, id, subscription_id, at, actor, reason, terms, status,
    ends_at, trial_ends_at)
SELECT tenant_id, gen_random_uuid(), subscription_id, created_at, 'migration', 'created', terms,
    status, hard_end, trial_ends_at
FROM subscriptions;
ALTER TABLE subscriptions FORCE ROW LEVEL SECURITY;

CREATE TABLE invoices (
    tenant_id       text NOT NULL,
    invoice_id      uuid NOT NULL,
    subscription_id uuid NOT NULL,
    -- The vendor's running number, given when the invoice becomes final.
    number          text,
    -- The moment between the period that closed and the one that begins.
    boundary        timestamptz NOT NULL,
    period_start    timestamptz,
    period_end      timestamptz,
    currency        text NOT NULL,
    catalog_version text NOT NULL,
    -- Minor units, before tax.
    total           bigint NOT NULL,
    -- Minor units; what the provider added.
    tax             bigint NOT NULL DEFAULT 0,
    status          text NOT NULL
        CHECK (status IN ('draft', 'open', 'paid', 'uncollectible', 'void')),
    -- What was rated: usage by meter, and the change that was the newest.
    rated_from      jsonb NOT NULL,
    provider        text,
    provider_ref    text,
    provider_error  text,
    provider_tried_at timestamptz,
    due_at          timestamptz,
    finalized_at    timestamptz,
    paid_at         timestamptz,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id),
    UNIQUE (tenant_id, subscription_id, boundary),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscriptions
);
CREATE UNIQUE INDEX invoices_number ON invoices (tenant_id, number) WHERE number IS NOT NULL;
CREATE UNIQUE INDEX invoices_provider_ref ON invoices (tenant_id, provider, provider_ref)
    WHERE provider_ref IS NOT NULL;

CREATE TABLE invoice_lines (
    tenant_id    text NOT NULL,
    invoice_id   uuid NOT NULL,
    position     integer NOT NULL,
    line         text NOT NULL,
    kind         text NOT NULL,
    description  text NOT NULL,
    quantity     numeric NOT NULL,
    unit_price   numeric,
    per          integer NOT NULL,
    days         integer,
    of_days      integer,
    period_start timestamptz NOT NULL,
    period_end   timestamptz NOT NULL,
    -- Minor units.
    amount       bigint NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id, position),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoices
);

-- What somebody shall be told, written in the transaction of what happened. Once per key.
CREATE TABLE notifications (
    tenant_id  text NOT NULL REFERENCES billing_customers,
    id         uuid NOT NULL,
    kind       text NOT NULL,
    dedup_key  text NOT NULL,
    payload    jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, dedup_key)
);

DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['subscription_changes', 'invoices', 'invoice_lines',
                                  'notifications'] LOOP
        CALL protect_tenant_table(wanted::regclass);
        CALL admit_worker(wanted::regclass);
        EXECUTE format(
            'CREATE POLICY admin_all ON %I TO brinkbyte_admin USING (true) WITH CHECK (true)',
            wanted);
        EXECUTE format('GRANT SELECT, INSERT ON %I TO brinkbyte_api, brinkbyte_worker, '
                       'brinkbyte_admin', wanted);
    END LOOP;
END $$;
GRANT UPDATE ON invoices TO brinkbyte_api, brinkbyte_worker;
-- Lines of a draft may be written anew; the trigger below guards final ones.
GRANT DELETE ON invoice_lines TO brinkbyte_worker;

-- Whatever was final stays as it is, but for its payment.
CREATE FUNCTION keep_final_invoice() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> 'draft' AND (NEW.total, NEW.boundary, NEW.currency, NEW.number, NEW.rated_from,
            NEW.period_start, NEW.period_end, NEW.catalog_version)
            IS DISTINCT FROM (OLD.total, OLD.boundary, OLD.currency, OLD.number, OLD.rated_from,
            OLD.period_start, OLD.period_end, OLD.catalog_version) THEN
        RAISE EXCEPTION 'invoice % is final', OLD.invoice_id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_final BEFORE UPDATE ON invoices
    FOR EACH ROW EXECUTE FUNCTION keep_final_invoice();

CREATE FUNCTION keep_final_lines() RETURNS trigger
    LANGUAGE plpgsql AS $$
DECLARE one record;
BEGIN
    one := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    IF EXISTS (SELECT FROM invoices i WHERE i.tenant_id = one.tenant_id
               AND i.invoice_id = one.invoice_id AND i.status <> 'draft') THEN
        RAISE EXCEPTION 'invoice % is final', one.invoice_id USING ERRCODE = 'check_violation';
    END IF;
    RETURN one;
END $$;
CREATE TRIGGER keep_final BEFORE INSERT OR UPDATE OR DELETE ON invoice_lines
    FOR EACH ROW EXECUTE FUNCTION keep_final_lines();
REVOKE EXECUTE ON FUNCTION keep_final_invoice, keep_final_lines FROM PUBLIC;
