-- What is not flushed, of both tables, after segment $1, row $2.
SELECT l.segment, l.seq, l.payload
FROM _promkeep.leader AS f, LATERAL (
    SELECT segment, seq, payload FROM _promkeep.log WHERE (segment, seq) > (f.log_segment, f.log_seq)
    UNION ALL
    SELECT segment, seq, payload FROM _promkeep.log_other WHERE (segment, seq) > (f.log_segment, f.log_seq)
) AS l
WHERE (l.segment, l.seq) > ($1::int4, $2::int8) ORDER BY l.segment, l.seq
