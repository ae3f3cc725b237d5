-- In the transaction of a flush: from its commit on, rows up to here do not count.
UPDATE _promkeep.leader SET log_segment = $1, log_seq = $2
