COPY _promkeep.recent_{{part}} (part, series_id, start, "end", n, version, encoding, data) FROM STDIN BINARY
