package storage

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// settle merges all that is due into days.
func settle(t *testing.T, db *DB, pg *pgtest.DB) {
	t.Helper()
	for range 2 {
		makePartsOld(t, pg)
		require.NoError(t, db.Maintain(context.Background()))
	}
}

// TestRetentionBySize fills six days and lowers the limit step by step: the oldest days go, as many as need be and no more.
func TestRetentionBySize(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		const days, series, samples = 6, 40, 400
		c := &clock{day}
		cfg := testConfig(t, pg, c)
		db := open(t, cfg)
		random := rand.New(rand.NewPCG(1, 2))
		for d := range days {
			begin := day.AddDate(0, 0, d)
			c.now = begin.Add(20 * time.Hour)
			for i := range series {
				var all []sample
				for k := range samples {
					all = append(all, sample{begin.Add(time.Duration(k) * time.Minute).UnixMilli(), random.NormFloat64()})
				}
				write(t, db, lset("m", i), all...)
			}
			require.NoError(t, db.Flush(ctx))
		}
		c.now = day.AddDate(0, 0, days).Add(4 * time.Hour)
		settle(t, db, pg)
		require.Zero(t, countRows(t, pg, "_promkeep.recent"))
		full, err := db.chunks.Size(ctx)
		require.NoError(t, err)
		require.EqualValues(t, full, db.size.Load())
		require.Greater(t, full, int64(days*series*samples*8), "random floats do not compress")
		kept := func() (out []int) {
			for d := range days {
				from := day.AddDate(0, 0, d)
				if len(read(t, db, from.UnixMilli(), from.Add(24*time.Hour).UnixMilli()-1, eq("__name__", "m"))) > 0 {
					out = append(out, d)
				}
			}
			return out
		}
		require.Equal(t, []int{0, 1, 2, 3, 4, 5}, kept())

		require.NoError(t, db.Close())
		cfg.RetentionSize = full
		db = open(t, cfg)
		require.NoError(t, db.Maintain(ctx))
		require.Equal(t, []int{0, 1, 2, 3, 4, 5}, kept(), "what fits exactly stays")

		require.NoError(t, db.Close())
		cfg.RetentionSize = full - 1
		db = open(t, cfg)
		require.NoError(t, db.Maintain(ctx))
		require.Equal(t, []int{1, 2, 3, 4, 5}, kept())
		require.EqualValues(t, 1, testutil.ToFloat64(db.metrics.daysDroppedForSize))
		perDay := full - db.size.Load()
		require.Greater(t, perDay, int64(series*samples*8))

		require.NoError(t, db.Close())
		cfg.RetentionSize = full - 7*perDay/2
		db = open(t, cfg)
		require.NoError(t, db.Maintain(ctx))
		require.Equal(t, []int{4, 5}, kept())
		require.LessOrEqual(t, db.size.Load(), cfg.RetentionSize)

		// The catalogue alone takes more than this: all past days go, and what is being gathered stays.
		write(t, db, lset("m", 0), sample{c.now.UnixMilli(), 1})
		require.NoError(t, db.Flush(ctx))
		require.NoError(t, db.Close())
		cfg.RetentionSize = 1
		db = open(t, cfg)
		require.NoError(t, db.Maintain(ctx))
		require.Empty(t, kept())
		require.Equal(t, map[string][]sample{lset("m", 0).String(): {{c.now.UnixMilli(), 1}}}, read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m")))
		require.True(t, db.oversize)

		// A late sample for a day that went is taken, and its day goes again.
		write(t, db, lset("m", 1), sample{day.UnixMilli(), 2})
		require.Equal(t, []int{0}, kept())
		require.NoError(t, db.Flush(ctx))
		c.now = c.now.Add(2 * time.Hour)
		settle(t, db, pg)
		require.Empty(t, kept())
	}, pgtest.AllEditions)
}
