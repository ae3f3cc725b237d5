SELECT min(start) FROM (SELECT min(start) AS start FROM _promkeep.recent UNION ALL SELECT min(start) FROM _promkeep.chunk) AS all_rows
