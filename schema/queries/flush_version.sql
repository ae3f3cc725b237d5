UPDATE _promkeep.leader SET flush_version = $1
