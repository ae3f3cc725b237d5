-- What a transaction may change in the columnstore has a limit, which the steps of promkeep keep by themselves.
SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0
