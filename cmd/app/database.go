package app

import (
	"context"
	"log/slog"
	"os"

	"github.com/alecthomas/kingpin/v2"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/postgres"
)

// database is the flags that say which PostgreSQL to use.
type database struct {
	uri, uriFile string
	timescale    string
	dataDir      string
	binDir       string
}

func (d *database) register(cmd *kingpin.CmdClause) {
	cmd.Flag("db.uri", "PostgreSQL to use, as postgres://user@host:5432/database. Better in the environment variable "+postgres.URIEnv+" or in --db.uri-file if it holds a password. Without any, an embedded server is started.").StringVar(&d.uri)
	cmd.Flag("db.uri-file", "File whose only line is the database URI.").StringVar(&d.uriFile)
	cmd.Flag("db.timescaledb", "Use of TimescaleDB: auto (where the database has it), on (or fail), off.").Default("auto").EnumVar(&d.timescale, "auto", "on", "off")
	cmd.Flag("data-dir", "Where the embedded PostgreSQL keeps its files.").Default("data").StringVar(&d.dataDir)
	cmd.Flag("postgres.bin-dir", "Directory of the server binaries for the embedded PostgreSQL; searched for if not given.").StringVar(&d.binDir)
}

func (d *database) mode() schema.TimescaleDBMode { return schema.TimescaleDBMode(d.timescale) }

// open returns the URI of the database, and the embedded server if one had to be started.
func (d *database) open(ctx context.Context, logger *slog.Logger) (postgres.URI, *postgres.Server, error) {
	uri, err := postgres.ResolveURI(d.uri, d.uriFile, os.Getenv(postgres.URIEnv))
	if postgres.HasPassword(d.uri) {
		logger.Warn("the password in --db.uri can be seen by every user of this machine; give it in " + postgres.URIEnv + " or with --db.uri-file")
	}
	if err != nil || uri.Value != "" {
		return uri, nil, err
	}
	dir, err := absolute(d.dataDir)
	if err != nil {
		return uri, nil, err
	}
	server, err := postgres.Start(ctx, postgres.Options{
		DataDir:     dir,
		BinDir:      d.binDir,
		Logger:      logger.With("component", "postgres"),
		TimescaleDB: postgres.TimescaleDB(d.timescale),
	})
	if err != nil {
		return uri, nil, err
	}
	uri.Value = server.URI()
	return uri, server, nil
}
