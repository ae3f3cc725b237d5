SELECT segment, seq, payload
FROM (SELECT segment, seq, payload FROM _promkeep.log UNION ALL SELECT segment, seq, payload FROM _promkeep.log_other) AS log
WHERE (segment, seq) > ($1::int4, $2::int8) ORDER BY segment, seq
