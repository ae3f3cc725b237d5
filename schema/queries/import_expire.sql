-- What was flushed a year ago has long been merged.
WITH old AS (DELETE FROM _promkeep.import_version WHERE at < now() - interval '1 year')
DELETE FROM _promkeep.import WHERE updated_at < now() - interval '1 year'
