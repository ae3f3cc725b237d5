-- One moment for what follows. The lock comes before the snapshot, which the first query takes: parts that count at that
-- moment cannot be dropped any more, and those that came since are found, because the query is planned after its snapshot.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
LOCK TABLE _promkeep.recent IN ACCESS SHARE MODE
