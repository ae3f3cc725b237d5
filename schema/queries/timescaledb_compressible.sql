SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks
WHERE hypertable_schema = '_promkeep' AND hypertable_name = 'chunk' AND NOT is_compressed AND range_end_integer <= $1 ORDER BY range_end_integer
