SELECT unit, cursor, finished, samples FROM _promkeep.import WHERE source = $1
