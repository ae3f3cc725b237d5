-- By metric and time, in hours since 1970, and by label pairs, of which the series has all of $4 and one of $5. Which series
-- and which label set belong together is said both ways, since either may be looked up first.
SELECT s.id, s.started, s.ended, l.labels FROM _promkeep.series s
JOIN _promkeep.label_set l ON (s.id & 137438953471) = l.id AND s.id = ($1::int8 << 37 | l.id)
WHERE s.id >= $1::int8 << 37 AND s.id < ($1 + 1) << 37 AND s.started <= $2 AND (s.ended IS NULL OR s.ended >= $3)
  AND ($4::int4[] IS NULL OR l.labels @> $4) AND ($5::int4[] IS NULL OR l.labels && $5)
