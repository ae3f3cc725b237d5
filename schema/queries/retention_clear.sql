DELETE FROM _promkeep.retention
