package storage

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestAConnectionForQueriesIsReady: the first query finds a connection that knows its statements.
func TestAConnectionForQueriesIsReady(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		c := &clock{day.Add(time.Hour)}
		cfg := testConfig(t, pg, c)
		cfg.MaxConns = backgroundConns + 1 // one for queries
		db := open(t, cfg)
		for i, name := range []string{"a", "b", "c"} {
			for k := range 3 {
				write(t, db, labels.FromStrings("__name__", name, "pod", string(rune('x'+k))), sample{day.UnixMilli(), float64(i)})
			}
		}
		require.NoError(t, db.Flush(t.Context()))
		require.NoError(t, db.Close())
		c.now = day.Add(72 * time.Hour)
		db = open(t, cfg)
		isReady := func() bool { return db.readiness.ready.Load() == 1 }
		require.Eventually(t, isReady, time.Minute, time.Millisecond)
		prepared := func() (all []string) {
			require.NoError(t, db.reads.AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error {
				rows, err := conn.Query(t.Context(), "SELECT statement FROM pg_prepared_statements", pgx.QueryExecModeSimpleProtocol)
				require.NoError(t, err)
				all, err = pgx.CollectRows(rows, pgx.RowTo[string])
				return err
			}))
			slices.Sort(all)
			return all
		}
		before := prepared()
		require.NotEmpty(t, before)
		for _, ms := range [][]*labels.Matcher{
			{labels.MustNewMatcher(labels.MatchEqual, "__name__", "a")},
			{labels.MustNewMatcher(labels.MatchRegexp, "__name__", "a|c")},
			{labels.MustNewMatcher(labels.MatchEqual, "__name__", "b"), labels.MustNewMatcher(labels.MatchEqual, "pod", "x")},
			{labels.MustNewMatcher(labels.MatchRegexp, "__name__", "a|c"), labels.MustNewMatcher(labels.MatchEqual, "pod", "x")},
		} {
			require.NotEmpty(t, read(t, db, day.UnixMilli(), day.UnixMilli()+1000, ms...))
		}
		require.Equal(t, before, prepared())
		require.Equal(t, int32(1), db.reads.Stat().TotalConns())

		// As after a restart of the server: what comes instead is made ready, too.
		made := db.reads.Stat().NewConnsCount()
		db.reads.Reset()
		require.Eventually(t, func() bool { return db.reads.Stat().NewConnsCount() > made && isReady() }, time.Minute, time.Millisecond)
		require.Equal(t, before, prepared())
	})
}

// TestMakingReadyWaitsForNobody: neither for a lock, nor does anything wait for it.
func TestMakingReadyWaitsForNobody(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(time.Hour)}
	db := open(t, testConfig(t, pg, c))
	require.Eventually(t, func() bool { return db.readiness.ready.Load() == 1 }, time.Minute, time.Millisecond)
	db.readiness.stop()
	db.reads.Reset()
	for _, table := range []string{"_promkeep.recent", "_promkeep.chunk", "_promkeep.series", "_promkeep.times", "_promkeep.catalogue"} {
		require.NoError(t, pgx.BeginFunc(ctx, pg.Pool(t), func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE")
			require.NoError(t, err)
			done := make(chan error, 1)
			go func() { done <- db.readiness.once(ctx) }()
			select {
			case err := <-done:
				require.NoError(t, err)
			case <-time.After(30 * time.Second):
				t.Fatal("it waits for ", table)
			}
			require.Zero(t, db.readiness.ready.Load(), table)
			return nil
		}))
	}
	// Where all connections have something to do, none is taken or made.
	require.NoError(t, db.reads.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		require.NoError(t, db.readiness.once(ctx))
		require.Zero(t, db.readiness.ready.Load())
		require.Equal(t, int32(1), db.reads.Stat().TotalConns())
		return nil
	}))
	require.NoError(t, db.readiness.once(ctx))
	require.Equal(t, int32(1), db.readiness.ready.Load())
	var patience string
	require.NoError(t, db.reads.QueryRow(ctx, "SHOW lock_timeout").Scan(&patience))
	require.Equal(t, "0", patience)
}
