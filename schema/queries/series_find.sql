-- The creation of series goes on with copy_label_set.sql, copy_series.sql and label_set_indexed.sql, in one transaction.
SELECT version, set_ids, coalesce(first_set, 0), ids, started, ended
FROM _promkeep.find_series($1::int4[], $2::int4[], $3::text[], $4::int4[], $5::int4[], $6::int4, $7::int8)
