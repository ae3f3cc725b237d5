SELECT segment, seq, payload FROM _promkeep.log_other
WHERE (segment, seq) > ($1::int4, $2::int8) ORDER BY segment, seq
