DROP TABLE IF EXISTS _promkeep.recent_{{part}}
