SELECT count(*) FROM _promkeep.tenant WHERE name <> $1
