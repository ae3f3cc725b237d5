DELETE FROM _promkeep.exemplar WHERE time < $1
