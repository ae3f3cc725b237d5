COPY _promkeep.recent_{{part}} (part, series_id, span, start, "end", n, members, version, encoding, data) FROM STDIN BINARY
