SELECT count(*) > 0 FROM pg_available_extensions WHERE name = 'timescaledb'
