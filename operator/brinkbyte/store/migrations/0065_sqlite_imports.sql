-- The journal of imports from old edge databases: it commits with the rows it tells of, so that an
-- interrupted import goes on where it was and can be taken back whole.

CREATE TABLE sqlite_imports (
    tenant_id text NOT NULL,
    id uuid NOT NULL,
    source text NOT NULL,
    source_sha256 text NOT NULL,
    status text NOT NULL
        CHECK (status IN ('running', 'finished', 'rolling_back', 'rolled_back')),
    hardware_id text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
COMMENT ON COLUMN sqlite_imports.source IS 'name of the old database; its rows'' ids come from it';
COMMENT ON COLUMN sqlite_imports.source_sha256 IS 'of the backup that the newest run read';
CREATE UNIQUE INDEX sqlite_imports_source ON sqlite_imports (tenant_id, source)
    WHERE status <> 'rolled_back';
CREATE TRIGGER sqlite_imports_updated BEFORE UPDATE ON sqlite_imports
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

CREATE TABLE sqlite_import_tables (
    tenant_id text NOT NULL,
    import_id uuid NOT NULL,
    name text NOT NULL,
    last_rowid bigint NOT NULL,
    last_row_hash text NOT NULL,
    rows_read bigint NOT NULL,
    written bigint NOT NULL,
    existing bigint NOT NULL,
    conflicts bigint NOT NULL,
    rejected bigint NOT NULL,
    checksum numeric(39) NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, import_id, name),
    FOREIGN KEY (tenant_id, import_id) REFERENCES sqlite_imports
);
COMMENT ON COLUMN sqlite_import_tables.last_row_hash IS 'of the old row as it was read: a guard';
COMMENT ON COLUMN sqlite_import_tables.checksum IS
    'sum of the hashes of rows written and existing, modulo 2^128: their order does not matter';
CREATE TRIGGER sqlite_import_tables_updated BEFORE UPDATE ON sqlite_import_tables
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

CREATE TABLE sqlite_import_days (
    tenant_id text NOT NULL,
    import_id uuid NOT NULL,
    name text NOT NULL,
    day date NOT NULL,
    rows bigint NOT NULL,
    checksum numeric(39) NOT NULL,
    summed bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, import_id, name, day),
    FOREIGN KEY (tenant_id, import_id) REFERENCES sqlite_imports
);
COMMENT ON TABLE sqlite_import_days IS
    'rows written into a day of a partitioned table; the ids of an import are one range';
COMMENT ON COLUMN sqlite_import_days.summed IS 'rows that there were when the hours were summed';

CREATE TABLE sqlite_import_rows (
    tenant_id text NOT NULL,
    import_id uuid NOT NULL,
    name text NOT NULL,
    key text[] NOT NULL,
    hash uuid NOT NULL,
    written boolean NOT NULL,
    PRIMARY KEY (tenant_id, import_id, name, key),
    FOREIGN KEY (tenant_id, import_id) REFERENCES sqlite_imports
);
COMMENT ON COLUMN sqlite_import_rows.written IS 'false: the same row was there before';

CREATE TABLE sqlite_import_rejects (
    tenant_id text NOT NULL,
    import_id uuid NOT NULL,
    name text NOT NULL,
    source_rowid bigint NOT NULL,
    reason text NOT NULL,
    message text NOT NULL,
    raw text NOT NULL,
    PRIMARY KEY (tenant_id, import_id, name, source_rowid),
    FOREIGN KEY (tenant_id, import_id) REFERENCES sqlite_imports
);
COMMENT ON COLUMN sqlite_import_rejects.raw IS 'the old row''s values as ASCII JSON';
