-- Attaching a part may wait for a part that is being detached, and that for its readers: who holds the leader's row must not
-- wait long.
SET LOCAL lock_timeout = '3s'
