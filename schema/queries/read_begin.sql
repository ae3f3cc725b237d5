-- One moment for what follows, once read_lock.sql has run.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY
