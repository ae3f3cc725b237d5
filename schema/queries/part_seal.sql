UPDATE _promkeep.part SET sealed = true WHERE level = $1 AND window_start < $2 AND opened_at < now() - make_interval(secs => $3) AND NOT sealed
