-- The version of TimescaleDB in this database and the one this server would install; empty where there is none.
SELECT coalesce((SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'timescaledb'), ''),
       coalesce((SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'timescaledb'), '');
