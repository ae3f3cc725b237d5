SELECT to_regclass('_promkeep.chunk_{{day}}') IS NOT NULL
