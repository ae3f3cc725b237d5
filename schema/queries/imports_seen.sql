UPDATE _promkeep.leader SET imports_seen = $2 WHERE epoch = $1
