DELETE FROM _promkeep.log_segment WHERE id < $1 AND sealed
