-- Whether the server has TimescaleDB's files, and whether it has loaded it: its settings are known only then. Creating the extension without that ends the session.
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb'),
       EXISTS (SELECT FROM pg_settings WHERE name = 'timescaledb.disable_load')
