-- Hands the rows of a compressed day that have left the columnstore to it again.
SELECT compress_chunk(format('%I.%I', chunk_schema, chunk_name)::regclass) FROM timescaledb_information.chunks
WHERE hypertable_schema = '_promkeep' AND hypertable_name = 'chunk' AND is_compressed AND range_start_integer = $1
