-- What both tables of the log take on disk, in bytes, flushed rows that are not gone yet included.
SELECT pg_total_relation_size('_promkeep.log') + pg_total_relation_size('_promkeep.log_other')
