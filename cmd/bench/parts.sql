SELECT count(*) FROM _promkeep.part
