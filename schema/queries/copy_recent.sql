COPY _promkeep.recent_{{part}} (part, series_id, last_id, start, "end", n, members, version, encoding, data) FROM STDIN BINARY
