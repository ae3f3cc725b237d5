DELETE FROM _promkeep.log WHERE (segment, seq) <= ($1::int4, $2::int8)
