TRUNCATE _promkeep.log
