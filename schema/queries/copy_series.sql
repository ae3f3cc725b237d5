COPY _promkeep.series (id, started, ended, late) FROM STDIN BINARY
