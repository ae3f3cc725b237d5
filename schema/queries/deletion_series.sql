INSERT INTO _promkeep.tombstone (series_id, deletion_id) SELECT DISTINCT unnest($2::int8[]), $1::int8
