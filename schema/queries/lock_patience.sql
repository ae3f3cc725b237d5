-- Until lock_patience_end.sql: who drops something waits for its readers, but not for long, since others may queue up behind.
-- Longer than deadlock_timeout, after which an autovacuum gives way.
SET lock_timeout = '3s'
