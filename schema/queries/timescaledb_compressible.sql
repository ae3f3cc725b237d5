-- What ended before $1 and is not compressed, or got rows since it was (status 8: partially).
SELECT format('%I.%I', c.chunk_schema, c.chunk_name) FROM timescaledb_information.chunks AS c
JOIN _timescaledb_catalog.chunk AS k ON k.schema_name = c.chunk_schema AND k.table_name = c.chunk_name
WHERE c.hypertable_schema = '_promkeep' AND c.hypertable_name = 'chunk' AND c.range_end_integer <= $1
  AND (NOT c.is_compressed OR k.status & 8 <> 0)
ORDER BY c.range_end_integer
