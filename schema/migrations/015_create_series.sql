-- Creating series finds label sets by their hash again.
--
-- A comparison of arrays for equality may also be answered by the GIN index of the label sets, and while there were no statistics the planner
-- chose it: then each new series reads the list of all label sets with each of its pairs, which grows with their number. A GIN index is
-- read by bitmap scans alone.
--
-- Cost on an existing database: none.

ALTER FUNCTION _promkeep.create_series(int4[], text[], int4[], int8) SET enable_bitmapscan = off;
ALTER FUNCTION _promkeep.import_series(int4[], text[], int4[], int4[], int8) SET enable_bitmapscan = off;
