UPDATE _promkeep.log_segment SET sealed = true WHERE id < $1 AND NOT sealed
