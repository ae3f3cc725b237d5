SELECT range_start_integer FROM timescaledb_information.chunks
WHERE hypertable_schema = '_promkeep' AND hypertable_name = 'chunk' ORDER BY 1
