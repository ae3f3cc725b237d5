CREATE SCHEMA IF NOT EXISTS _promkeep_migration;
CREATE TABLE IF NOT EXISTS _promkeep_migration.applied (
    version    int4 PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
