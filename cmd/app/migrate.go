package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/promkeep/promkeep/storage"
)

// stopTimeout bounds how long an embedded server may take to stop.
const stopTimeout = 30 * time.Second

type migrate struct {
	name string
	db   database
	wait time.Duration
}

func newMigrate(a *kingpin.Application) *migrate {
	m := &migrate{}
	cmd := a.Command("migrate", "Bring the database to the version of this binary, and say where it stands.")
	m.name = cmd.FullCommand()
	m.db.register(cmd)
	cmd.Flag("wait", "How long to wait for a database that does not answer.").Default("1m").DurationVar(&m.wait)
	return m
}

func (m *migrate) run(ctx context.Context, logger *slog.Logger) error {
	uri, server, err := m.db.open(ctx, logger)
	if err != nil {
		return err
	}
	if server != nil {
		defer func() {
			stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			if err := server.Stop(stopCtx); err != nil {
				logger.Error("the embedded PostgreSQL did not stop cleanly", "err", err)
			}
		}()
	}
	ctx, cancel := context.WithTimeout(ctx, m.wait)
	defer cancel()
	st, err := storage.Migrate(ctx, storage.Config{URI: uri.Value, TimescaleDB: m.db.mode(), Logger: logger})
	if err != nil {
		return err
	}
	timescale := string(st.TimescaleDB)
	if timescale == "" {
		timescale = "none"
	}
	fmt.Printf("database     %s\nserver       PostgreSQL %s\ntimescaledb  %s\nlayout       %s\nschema       %d, the latest this binary knows\n",
		uri, st.Server, timescale, st.Layout, st.Version)
	if st.Advice() != "" {
		fmt.Println(st.Advice())
	}
	return nil
}
