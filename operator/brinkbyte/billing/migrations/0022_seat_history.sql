-- Who moved a seat, and from where.
ALTER TABLE seat_history
    ADD COLUMN actor text NOT NULL DEFAULT '',
    ADD COLUMN from_hardware_id text;

-- A camera is tried once: its time runs from its first use, whatever becomes of its seat.
CREATE TABLE camera_trials (
    tenant_id  text NOT NULL REFERENCES billing_customers,
    camera_id  text NOT NULL,
    started_at timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, camera_id)
);
CALL protect_tenant_table('camera_trials');
CREATE POLICY admin_all ON camera_trials TO brinkbyte_admin USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON camera_trials TO brinkbyte_api, brinkbyte_admin;

-- Trials of before. (Forced row security hides all rows from the owner too.)
ALTER TABLE seat_history NO FORCE ROW LEVEL SECURITY;
ALTER TABLE seats NO FORCE ROW LEVEL SECURITY;
ALTER TABLE camera_trials NO FORCE ROW LEVEL SECURITY;
INSERT INTO camera_trials (tenant_id, camera_id, started_at, until)
    SELECT h.tenant_id, h.camera_id, min(h.at),
           coalesce(min(s.until), min(h.at) + interval '90 days')
    FROM seat_history h
    LEFT JOIN seats s ON s.tenant_id = h.tenant_id AND s.camera_id = h.camera_id
    WHERE h.mode = 'trial'
    GROUP BY h.tenant_id, h.camera_id;
ALTER TABLE seat_history FORCE ROW LEVEL SECURITY;
ALTER TABLE seats FORCE ROW LEVEL SECURITY;
ALTER TABLE camera_trials FORCE ROW LEVEL SECURITY;
