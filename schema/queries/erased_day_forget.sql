DELETE FROM _promkeep.erased_day WHERE day < $1
