SELECT count(*) > 0 FROM timescaledb_information.chunks
WHERE hypertable_schema = '_promkeep' AND hypertable_name = 'chunk' AND range_start_integer = $1
