SELECT merged_upto FROM _promkeep.part WHERE id = $1 AND sealed FOR UPDATE
