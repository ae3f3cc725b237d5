SELECT level, sealed, count(*), coalesce(extract(epoch FROM now() - min(opened_at)), 0)::float8 FROM _promkeep.part
WHERE merged_upto < 9223372036854775807 GROUP BY level, sealed
