-- Holds off flushes, merges and other imports until this transaction ends. The highest version of all rows that are committed.
SELECT greatest(flush_version, import_version) FROM _promkeep.leader FOR UPDATE
