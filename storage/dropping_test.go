package storage

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestALongTransactionHoldsUpNothing: while a transaction that has read everything stays open, as a dump's does for hours, flushes, merges, the
// columnstore and other readers go on; only what it may still read is not dropped until it ends, which can be watched.
func TestALongTransactionHoldsUpNothing(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(9 * time.Hour)}
		cfg := testConfig(t, pg, c)
		cfg.Retention = 36 * time.Hour
		reg := prometheus.NewRegistry()
		cfg.Registerer = reg
		db := open(t, cfg)
		pool := pg.Pool(t)
		n := 0
		put := func() {
			n++
			began := time.Now()
			write(t, db, lset("m", 1), sample{c.now.UnixMilli(), float64(n)})
			require.NoError(t, db.Flush(ctx))
			require.Less(t, time.Since(began), 20*time.Second)
		}
		stored := func(q interface {
			QueryRow(context.Context, string, ...any) pgx.Row
		}) (count int) {
			require.NoError(t, q.QueryRow(ctx, "SELECT count(*) FROM promkeep.samples('m')").Scan(&count))
			return count
		}
		put()
		c.now = day.Add(24*time.Hour + 30*time.Minute)
		put()
		c.now = day.Add(26*time.Hour + 30*time.Minute)
		require.NoError(t, db.Maintain(ctx))
		makePartsOld(t, pg)
		c.now = day.Add(28 * time.Hour)
		require.NoError(t, db.chunks.Seal(ctx, db.log.Epoch(), c.now))
		db.flushMu.Lock()
		require.NoError(t, db.merge(ctx)) // on TimescaleDB the first day waits for the columnstore
		db.flushMu.Unlock()
		compressed := func() (is bool) {
			require.NoError(t, pool.QueryRow(ctx, "SELECT is_compressed FROM timescaledb_information.chunks WHERE hypertable_name = 'chunk' AND range_start_integer = $1", day.UnixMilli()).Scan(&is))
			return is
		}
		if pg.HasTimescaleDB {
			require.False(t, compressed())
		}

		reader, err := pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		require.NoError(t, err)
		defer reader.Rollback(ctx)
		require.Equal(t, 2, stored(reader))
		// All tables, as a dump does.
		_, err = reader.Exec(ctx, `DO $$ BEGIN EXECUTE (SELECT 'LOCK TABLE ' || string_agg(oid::regclass::text, ', ') || ' IN ACCESS SHARE MODE'
			FROM pg_class WHERE relnamespace = '_promkeep'::regnamespace AND relkind IN ('r', 'p')); END $$`)
		require.NoError(t, err)

		waits := func() map[string]float64 {
			return gathered(t, reg, "promkeep_background_waits_for_transactions")
		}
		for _, hours := range []int{29, 31, 33, 49} {
			c.now = day.Add(time.Duration(hours) * time.Hour)
			put()
			makePartsOld(t, pg)
			began := time.Now()
			require.NoError(t, db.Maintain(ctx))
			require.Less(t, time.Since(began), time.Minute)
			require.Len(t, read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m"))[lset("m", 1).String()], n)
			require.Equal(t, n, stored(pool))
		}
		require.EqualValues(t, 1, waits()["drop "])
		parts := gathered(t, reg, "promkeep_merge_backlog_parts")
		require.Zero(t, parts["0 sealed "]+parts["1 sealed "], "merges go on: %v", parts)
		require.Positive(t, parts["0 merged "])
		if pg.HasTimescaleDB {
			require.True(t, compressed())
		}

		// The first day is past the retention, but it may still be read.
		c.now = day.Add(61 * time.Hour)
		put()
		require.NoError(t, db.Maintain(ctx))
		require.EqualValues(t, 1, waits()["retention "])
		require.Empty(t, gathered(t, reg, "promkeep_background_failures_total")["retention "])
		waiting := func() (items int, oldest *time.Time) {
			require.NoError(t, pool.QueryRow(ctx, "SELECT items, oldest FROM promkeep.maintenance WHERE state = 'days past the retention'").Scan(&items, &oldest))
			return items, oldest
		}
		items, oldest := waiting()
		require.Equal(t, 1, items)
		require.True(t, oldest.Equal(day), oldest)

		require.NoError(t, reader.Rollback(ctx))
		makePartsOld(t, pg)
		require.NoError(t, db.Maintain(ctx))
		require.Zero(t, waits()["drop "]+waits()["retention "])
		require.Zero(t, gathered(t, reg, "promkeep_merge_backlog_parts")["0 merged "])
		days, err := db.chunks.Days(ctx)
		require.NoError(t, err)
		require.NotContains(t, days, day.UnixMilli())
		items, oldest = waiting()
		require.Zero(t, items)
		require.Nil(t, oldest)
		require.Equal(t, n-1, stored(pool))
	})
}
