package storage

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/chunks"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestTheLayoutFollowsTheDatabase: what --db.timescaledb makes of an empty database of each kind, what the log says was found, and that days are made
// ahead of their samples in each layout.
func TestTheLayoutFollowsTheDatabase(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		kind := func() *pgtest.DB {
			switch {
			case pg.ApacheOnly:
				return pg.Server.NewDB(t, pgtest.WithApacheTimescaleDB)
			case pg.HasTimescaleDB:
				return pg.Server.NewDB(t, pgtest.WithTimescaleDB)
			default:
				return pg.Server.NewDB(t)
			}
		}
		var available bool // to be created in a database that lacks it
		require.NoError(t, pg.SuperPool(t).QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')").Scan(&available))
		edition := "none"
		switch {
		case pg.ApacheOnly:
			edition = "apache"
		case pg.HasTimescaleDB:
			edition = "community"
		}
		for _, mode := range []schema.TimescaleDBMode{schema.TimescaleDBAuto, schema.TimescaleDBOn, schema.TimescaleDBOff} {
			t.Run(string(mode), func(t *testing.T) {
				target := kind()
				c := &clock{day.Add(time.Hour)}
				cfg := testConfig(t, target, c)
				cfg.TimescaleDB = mode
				var log bytes.Buffer
				cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
				layout, found := schema.LayoutPlain, edition
				if mode != schema.TimescaleDBOff && available {
					layout = schema.LayoutTimescaleDB
					if found == "none" {
						found = "community"
					}
				}
				db, err := Open(ctx, cfg)
				if mode == schema.TimescaleDBOn && !available {
					require.ErrorContains(t, err, "--db.timescaledb=on, but this database has no TimescaleDB")
					return
				}
				require.NoError(t, err)
				defer db.Close()
				require.Equal(t, layout, db.Status().Layout)
				require.Regexp(t, `msg="the database is ready" server="?`+db.Status().Server[:2]+`.* layout=`+layout+` timescaledb=`+found, log.String())

				require.NoError(t, db.Maintain(ctx))
				days, err := db.chunks.Days(ctx)
				require.NoError(t, err)
				require.Contains(t, days, day.UnixMilli())
				require.Contains(t, days, day.UnixMilli()+2*chunks.Day)
				write(t, db, lset("m", 1), sample{c.now.UnixMilli(), 1})
				require.NoError(t, db.Flush(ctx))
				require.Len(t, read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m")), 1)
			})
		}
	}, pgtest.AllEditions)
}

// TestDeletionKeepsExemplars: as in Prometheus, whose delete_series takes samples only.
func TestDeletionKeepsExemplars(t *testing.T) {
	ctx := context.Background()
	c := &clock{day.Add(time.Hour)}
	db := open(t, testConfig(t, pgtest.New(t), c))
	l, m := lset("m", 1), []*labels.Matcher{eq("__name__", "m")}
	write(t, db, l, sample{day.UnixMilli(), 1})
	writeExemplars(t, db, "", l, trace("a", 1, day.UnixMilli()))
	for _, stage := range []string{"in memory", "flushed"} {
		require.NoError(t, db.Delete(ctx, 0, math.MaxInt64, m))
		require.NoError(t, db.CleanTombstones(ctx))
		require.Empty(t, read(t, db, 0, c.now.UnixMilli(), m...)[l.String()], stage)
		require.Equal(t, map[string][]exemplar.Exemplar{l.String(): {trace("a", 1, day.UnixMilli())}}, readExemplars(t, db, DefaultTenant, 0, c.now.UnixMilli(), m), stage)
		require.NoError(t, db.Flush(ctx))
	}
}

// TestAServerThatDoesNotLoadTimescaleDB: one that has its files and lacks shared_preload_libraries serves as plain PostgreSQL, and who insists is told what to set.
func TestAServerThatDoesNotLoadTimescaleDB(t *testing.T) {
	server := pgtest.NewServer(t, pgtest.WithTimescaleDB, pgtest.WithSettings(map[string]string{"shared_preload_libraries": ""}))
	pg := server.NewDB(t)
	for _, mode := range []schema.TimescaleDBMode{schema.TimescaleDBOn, schema.TimescaleDBAuto} {
		c := &clock{day.Add(time.Hour)}
		cfg := testConfig(t, pg, c)
		cfg.TimescaleDB = mode
		var log bytes.Buffer
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		db, err := Open(t.Context(), cfg)
		if mode == schema.TimescaleDBOn {
			require.ErrorContains(t, err, "shared_preload_libraries = 'timescaledb'")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, schema.LayoutPlain, db.Status().Layout)
		require.Contains(t, log.String(), "shared_preload_libraries")
		db.Close()
	}
}
