DELETE FROM _promkeep.log_other WHERE (segment, seq) <= ($1::int4, $2::int8)
