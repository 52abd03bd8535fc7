-- What is in dispute: the ledger is kept from a moment on until the hold is closed.
CREATE TABLE usage_holds (
    tenant_id text NOT NULL REFERENCES billing_customers,
    id        uuid NOT NULL,
    -- Oldest event that is in dispute.
    since     timestamptz NOT NULL,
    reason    text NOT NULL CHECK (length(reason) BETWEEN 1 AND 400),
    opened_at timestamptz NOT NULL,
    opened_by text NOT NULL,
    closed_at timestamptz,
    closed_by text,
    PRIMARY KEY (tenant_id, id)
);
CALL protect_tenant_table('usage_holds');
CREATE POLICY admin_all ON usage_holds TO brinkbyte_admin USING (true) WITH CHECK (true);
GRANT SELECT ON usage_holds TO brinkbyte_api;
GRANT SELECT, INSERT ON usage_holds TO brinkbyte_admin;
GRANT UPDATE (closed_at, closed_by) ON usage_holds TO brinkbyte_admin;

-- Drops whole months of the ledger that are older than it is kept, oldest first; the aggregates
-- stay. A month stays, and all after it, while a hold reaches back to it, an invoice of its time is
-- not settled, or an event that was set aside may still be released into it. Run by the owner.
CREATE FUNCTION drop_usage_partitions(before timestamptz) RETURNS text[]
    LANGUAGE plpgsql AS $$
DECLARE
    part    record;
    dropped text[] := '{}';
    needed  boolean;
BEGIN
    FOR part IN
        SELECT c.relname,
            to_timestamp(right(c.relname, 6) || ' +00', 'YYYYMM TZH') AS month,
            to_timestamp(right(c.relname, 6) || ' +00', 'YYYYMM TZH') + interval '1 month' AS upper
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'usage_events'::regclass ORDER BY c.relname
    LOOP
        EXIT WHEN part.upper > before;
        -- Row security is forced for the owner, too: nothing would be seen, and all be dropped.
        ALTER TABLE usage_holds NO FORCE ROW LEVEL SECURITY;
        ALTER TABLE usage_quarantine NO FORCE ROW LEVEL SECURITY;
        ALTER TABLE invoices NO FORCE ROW LEVEL SECURITY;
        needed := EXISTS (SELECT FROM usage_holds h
                          WHERE h.closed_at IS NULL AND h.since < part.upper)
            OR EXISTS (SELECT FROM invoices v
                       WHERE v.status IN ('draft', 'open') AND v.period_start < part.upper)
            OR EXISTS (SELECT FROM usage_quarantine q
                       WHERE q.released_at IS NULL
                       AND q.reason IN ('UnknownMeter', 'WrongFamily', 'MissingCost')
                       AND q.event_id >= first_uuid7(part.month)::text COLLATE "C"
                       AND q.event_id < first_uuid7(part.upper)::text COLLATE "C");
        ALTER TABLE usage_holds FORCE ROW LEVEL SECURITY;
        ALTER TABLE usage_quarantine FORCE ROW LEVEL SECURITY;
        ALTER TABLE invoices FORCE ROW LEVEL SECURITY;
        EXIT WHEN needed;
        EXECUTE format('DROP TABLE %I', part.relname);
        dropped := dropped || part.relname::text;
    END LOOP;
    RETURN dropped;
END $$;
REVOKE EXECUTE ON FUNCTION drop_usage_partitions FROM PUBLIC;
