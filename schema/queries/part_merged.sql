-- What has been merged. Of a table only one partition at a time can be on its way out: that one comes first.
SELECT p.id FROM _promkeep.part AS p
LEFT JOIN pg_inherits AS i ON i.inhparent = '_promkeep.recent'::regclass AND i.inhrelid = to_regclass('_promkeep.recent_' || p.id)
WHERE p.merged_upto = 9223372036854775807 ORDER BY i.inhdetachpending IS TRUE DESC, p.id
