COPY _promkeep.recent (part, series_id, start, "end", n, version, encoding, data) FROM STDIN BINARY
