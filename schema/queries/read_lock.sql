-- Behind read_begin.sql. The lock comes before the snapshot, which the first query takes: parts that count at that moment cannot be
-- dropped any more, and those that came since are found, because each query is planned, or its plan is checked, after the snapshot.
LOCK TABLE _promkeep.recent IN ACCESS SHARE MODE
