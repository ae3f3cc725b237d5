-- Drops the rows of timestamps of days before $1 (ms), the first that the long-term store has.
DELETE FROM _promkeep.times WHERE day < $1
