-- Whether compressing a day may delete its rows where it cannot truncate, until the transaction ends.
SELECT set_config(name, $1, true) FROM pg_settings WHERE name = 'timescaledb.compress_truncate_behaviour'
