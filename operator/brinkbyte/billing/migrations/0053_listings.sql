-- The audit log is read newest first, across customers.
CREATE INDEX audit_log_id ON audit_log (id);
CREATE INDEX instances_id ON instances (instance_id);
