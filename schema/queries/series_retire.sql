SELECT version, series, label_sets FROM _promkeep.retire_series($1::int8[], $2::int4)
