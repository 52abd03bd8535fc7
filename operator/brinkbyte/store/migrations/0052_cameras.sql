-- Cameras, the components of their pipelines, and the zones drawn into their pictures.

CREATE TABLE cameras (
    tenant_id text NOT NULL,
    camera_id text NOT NULL,
    name text NOT NULL,
    hardware_id text,
    enabled boolean NOT NULL DEFAULT true,
    pipeline jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, camera_id)
);
COMMENT ON COLUMN cameras.pipeline IS 'names of models, analytics and outputs, and free settings';
CREATE TRIGGER cameras_updated BEFORE UPDATE ON cameras
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

CREATE TABLE camera_components (
    tenant_id text NOT NULL,
    camera_id text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('source', 'processor', 'sink')),
    type text NOT NULL,
    settings jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, camera_id, name),
    FOREIGN KEY (tenant_id, camera_id) REFERENCES cameras ON DELETE CASCADE
);
CREATE TRIGGER camera_components_updated BEFORE UPDATE ON camera_components
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

CREATE TABLE line_zones (
    tenant_id text NOT NULL,
    camera_id text NOT NULL,
    name text NOT NULL,
    start_x double precision NOT NULL CHECK (start_x BETWEEN 0 AND 1),
    start_y double precision NOT NULL CHECK (start_y BETWEEN 0 AND 1),
    end_x double precision NOT NULL CHECK (end_x BETWEEN 0 AND 1),
    end_y double precision NOT NULL CHECK (end_y BETWEEN 0 AND 1),
    direction text NOT NULL CHECK (direction IN ('both', 'forward', 'backward')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, camera_id, name),
    FOREIGN KEY (tenant_id, camera_id) REFERENCES cameras ON DELETE CASCADE
);
COMMENT ON TABLE line_zones IS 'lines to be crossed; coordinates are shares of width and height';
CREATE TRIGGER line_zones_updated BEFORE UPDATE ON line_zones
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

CREATE TABLE polygon_zones (
    tenant_id text NOT NULL,
    camera_id text NOT NULL,
    name text NOT NULL,
    points jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, camera_id, name),
    FOREIGN KEY (tenant_id, camera_id) REFERENCES cameras ON DELETE CASCADE
);
COMMENT ON COLUMN polygon_zones.points IS '[[x, y], …], shares of width and height, at least three';
CREATE TRIGGER polygon_zones_updated BEFORE UPDATE ON polygon_zones
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();
