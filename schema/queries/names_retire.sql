SELECT retired, pairs_gone, metrics_gone FROM _promkeep.retire_names($1::int4[], $2::int4[])
