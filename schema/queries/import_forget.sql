DELETE FROM _promkeep.import WHERE source = $1
