SELECT count(*) FROM drop_chunks('_promkeep.chunk', older_than => $1::int8)
