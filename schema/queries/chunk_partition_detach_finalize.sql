ALTER TABLE _promkeep.chunk DETACH PARTITION _promkeep.chunk_{{day}} FINALIZE
