-- true: attached, false: a detach was interrupted; no row: not attached
SELECT NOT inhdetachpending FROM pg_inherits
WHERE inhparent = '_promkeep.recent'::regclass AND inhrelid = to_regclass('_promkeep.recent_{{part}}')
