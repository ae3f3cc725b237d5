COPY _promkeep.chunk (series_id, span, start, "end", n, members, version, encoding, data) FROM STDIN BINARY
