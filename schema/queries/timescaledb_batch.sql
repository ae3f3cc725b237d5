-- How many rows the columnstore packs into one of its own, until the transaction ends; releases that cannot be told have no such row.
SELECT set_config(name, $1, true) FROM pg_settings WHERE name = 'timescaledb.compression_batch_size_limit'
