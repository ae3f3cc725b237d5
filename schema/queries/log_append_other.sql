INSERT INTO _promkeep.log_other (segment, seq, payload)
SELECT $1::int4, $2::int8 + ordinality, payload
FROM unnest($3::bytea[]) WITH ORDINALITY AS row (payload, ordinality)
