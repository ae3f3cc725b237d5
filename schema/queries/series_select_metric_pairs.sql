-- By metric and time, in hours since 1970, but those of $4, as in series_select.sql, and by label pairs, of which the series has all of $5 and one of $6. Which series
-- and which label set belong together is said both ways, since either may be looked up first.
SELECT s.id, s.started, s.ended, l.labels FROM _promkeep.series s
JOIN _promkeep.label_set l ON (s.id & 137438953471) = l.id AND s.id = ($1::int8 << 37 | l.id)
WHERE s.id >= $1::int8 << 37 AND s.id < ($1 + 1) << 37 AND s.started <= $2 AND (s.ended IS NULL OR s.ended >= $3)
  AND width_bucket(s.id, $4::int8[]) = width_bucket(s.id - 1, $4::int8[])
  AND ($5::int4[] IS NULL OR l.labels @> $5) AND ($6::int4[] IS NULL OR l.labels && $6)
