-- What people call a customer's API key, who made it, and which key took its place.
ALTER TABLE credentials ADD COLUMN name text NOT NULL DEFAULT '' CHECK (length(name) <= 100);
ALTER TABLE credentials ADD COLUMN created_by text NOT NULL DEFAULT '';
ALTER TABLE credentials ADD COLUMN replaced_by uuid;
ALTER TABLE credentials ADD FOREIGN KEY (tenant_id, replaced_by) REFERENCES credentials;
CREATE INDEX credentials_tenant_keys ON credentials (tenant_id, credential_id)
    WHERE kind = 'tenant';
