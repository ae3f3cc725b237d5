SELECT day, rules FROM _promkeep.erased_day
