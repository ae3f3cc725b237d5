-- Waits for a flush that may still be under way on a connection that was lost.
SELECT flush_version FROM _promkeep.leader FOR UPDATE
