-- Who the tenant of a transaction is: unset (or empty) means no rows at all.
CREATE FUNCTION current_tenant() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT nullif(current_setting('brinkbyte.tenant_id', true), '') $$;

-- Row-level security, forced also for the owner, and the api role's policy.
CREATE PROCEDURE protect_tenant_table(wanted regclass)
    LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', wanted);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', wanted);
    EXECUTE format(
        'CREATE POLICY api_tenant ON %s TO brinkbyte_api '
        'USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant())', wanted);
END $$;
REVOKE EXECUTE ON PROCEDURE protect_tenant_table FROM PUBLIC;

CREATE TABLE billing_customers (
    tenant_id  text PRIMARY KEY CHECK (length(tenant_id) BETWEEN 1 AND 128),
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- Feature flags that the vendor switches; absent keys keep their default.
    flags      jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE subscriptions (
    tenant_id       text NOT NULL REFERENCES billing_customers,
    subscription_id uuid NOT NULL,
    -- catalog.Terms: plans, quantities by SKU, the customer's own values.
    terms           jsonb NOT NULL,
    status          text NOT NULL
        CHECK (status IN ('trialing', 'active', 'past_due', 'canceled', 'suspended')),
    -- Billing periods are calendar months counted from this day (UTC midnight).
    period_anchor   timestamptz NOT NULL,
    trial_ends_at   timestamptz,
    -- End of a cancellation or a fixed term, or an unpaid invoice's due date plus dunning.
    hard_end        timestamptz,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    PRIMARY KEY (tenant_id, subscription_id)
);
CREATE UNIQUE INDEX subscriptions_live ON subscriptions (tenant_id) WHERE ended_at IS NULL;

CREATE TABLE audit_log (
    tenant_id text NOT NULL REFERENCES billing_customers,
    id        uuid NOT NULL,
    at        timestamptz NOT NULL,
    actor     text NOT NULL,
    action    text NOT NULL,
    subject   text NOT NULL,
    details   jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, id)
);

CALL protect_tenant_table('billing_customers');
CALL protect_tenant_table('subscriptions');
CALL protect_tenant_table('audit_log');

GRANT SELECT, INSERT, UPDATE ON billing_customers, subscriptions TO brinkbyte_api, brinkbyte_admin;
GRANT SELECT ON billing_customers, subscriptions TO brinkbyte_worker;
GRANT INSERT ON audit_log TO brinkbyte_api;
GRANT SELECT, INSERT ON audit_log TO brinkbyte_admin;

CREATE POLICY admin_all ON billing_customers TO brinkbyte_admin USING (true) WITH CHECK (true);
CREATE POLICY admin_all ON subscriptions TO brinkbyte_admin USING (true) WITH CHECK (true);
CREATE POLICY admin_all ON audit_log TO brinkbyte_admin USING (true) WITH CHECK (true);
CREATE POLICY worker_read ON billing_customers FOR SELECT TO brinkbyte_worker USING (true);
CREATE POLICY worker_read ON subscriptions FOR SELECT TO brinkbyte_worker USING (true);
