package storage

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/codec/codectest"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// BenchmarkReadDay reads from a day that was merged (and compressed, where there is a columnstore), of 2,000 series of one metric with
// 15-second samples: one series, ten, and all of them.
func BenchmarkReadDay(b *testing.B) {
	const series, steps = 2000, 5760
	bench := func(b *testing.B, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(23*time.Hour + 59*time.Minute)}
		cfg := testConfig(b, pg, c)
		cfg.CacheWindow = time.Minute
		db := open(b, cfg)
		kinds := codectest.Kinds()
		for i := range series {
			samples := make([]sample, steps)
			for k, v := range kinds[i%len(kinds)].Values(uint64(i), steps) {
				samples[k] = sample{day.Add(time.Duration(k) * 15 * time.Second).UnixMilli(), v}
			}
			write(b, db, lset("m", i), samples...)
			if i%500 == 499 {
				require.NoError(b, db.Flush(ctx))
			}
		}
		c.now = c.now.Add(24 * time.Hour)
		for range 2 {
			makePartsOld(b, pg)
			require.NoError(b, db.Maintain(ctx))
		}
		require.Zero(b, countPacked(b, pg, "_promkeep.recent"))
		for _, x := range [][2]string{{"one", "7"}, {"ten", "13."}, {"all", ".*"}} {
			name, matcher := x[0], x[1]
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					q, err := db.Querier(day.UnixMilli(), day.Add(24*time.Hour).UnixMilli()-1)
					require.NoError(b, err)
					set := q.Select(ctx, false, nil, eq("__name__", "m"), labels.MustNewMatcher(labels.MatchRegexp, "i", matcher))
					n := 0
					for set.Next() {
						n++
					}
					require.NoError(b, set.Err())
					require.NotZero(b, n)
					q.Close()
				}
			})
		}
	}
	b.Run("plain", func(b *testing.B) { bench(b, pgtest.New(b)) })
	b.Run("timescaledb", func(b *testing.B) { bench(b, pgtest.New(b, pgtest.WithTimescaleDB)) })
}
