-- The transactions of this database that may have a snapshot from before now, without those that have no user, as a vacuum's.
SELECT coalesce(array_agg(l.virtualtransaction), '{}') FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'virtualxid' AND l.virtualxid = l.virtualtransaction AND l.granted AND l.pid <> pg_backend_pid()
  AND a.datname = current_database() AND a.usesysid IS NOT NULL
