ALTER TABLE _promkeep.recent DETACH PARTITION _promkeep.recent_{{part}} CONCURRENTLY
