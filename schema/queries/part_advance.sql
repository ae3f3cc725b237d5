UPDATE _promkeep.part SET merged_upto = $2 WHERE id = $1
