DROP TABLE IF EXISTS _promkeep.chunk_{{day}}
