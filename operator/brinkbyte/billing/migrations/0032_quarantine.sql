-- The same bytes are set aside once, however often they are sent.
CREATE INDEX usage_quarantine_content ON usage_quarantine (tenant_id, sha256(event));

-- A release is the vendor's: it judges again, and what is good now goes into the ledger.
GRANT INSERT ON usage_events TO brinkbyte_admin;
GRANT INSERT, UPDATE ON usage_aggregates TO brinkbyte_admin;
GRANT UPDATE (released_at, reason) ON usage_quarantine TO brinkbyte_admin;
CREATE POLICY admin_add ON usage_events FOR INSERT TO brinkbyte_admin WITH CHECK (true);
CREATE POLICY admin_all ON usage_aggregates TO brinkbyte_admin USING (true) WITH CHECK (true);
CREATE POLICY admin_release ON usage_quarantine FOR UPDATE TO brinkbyte_admin
    USING (true) WITH CHECK (true);

-- Rows of the newest buckets change with every batch: room for that beside them.
ALTER TABLE usage_aggregates SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- Who uses most of a meter, across customers; not of columns that a batch changes.
CREATE INDEX usage_aggregates_days ON usage_aggregates (meter, bucket) WHERE grain = 'day';
