-- The columnstore of the Community edition: batches of rows that lie together by series, not segmented.
ALTER TABLE _promkeep.chunk SET (timescaledb.compress, timescaledb.compress_segmentby = '', timescaledb.compress_orderby = 'series_id, last_id, start');
