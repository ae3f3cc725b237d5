-- Bytes on disk of the hypertable's chunks, those of the columnstore included.
SELECT coalesce(sum(total_bytes), 0)::int8 FROM chunks_detailed_size('_promkeep.chunk')
