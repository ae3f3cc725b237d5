SELECT compress_chunk($1::regclass)
