COPY _promkeep.label_set (id, labels, metrics) FROM STDIN BINARY
