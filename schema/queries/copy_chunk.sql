COPY _promkeep.chunk (series_id, start, "end", n, version, encoding, data) FROM STDIN BINARY
