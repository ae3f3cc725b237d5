UPDATE _promkeep.leader SET flush_version = $1, youngest = greatest(youngest, $2)
