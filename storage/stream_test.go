package storage

import (
	"context"
	"math"
	"testing"
	"time"

	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestAChunkQuerierStreams reads series of which some samples lie in the long-term store, some in recent rows and some in memory,
// as chunks, a few series at a time; while it reads, all of them move. What comes is what a Querier gives at once, and memory
// holds only a part of it.
func TestAChunkQuerierStreams(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(10 * time.Hour)}
		db := open(t, testConfig(t, pg, c))
		const series, samples = 60, 400
		put := func() {
			for i := range series {
				var all []sample
				for k := range samples {
					all = append(all, sample{c.now.Add(time.Duration(k-samples) * 15 * time.Second).UnixMilli(), math.Sqrt(float64(k * i))})
				}
				write(t, db, lset("m", i), all...)
			}
		}
		put()
		require.NoError(t, db.Flush(ctx))
		c.now = day.Add(30 * time.Hour)
		for range 2 {
			require.NoError(t, db.Maintain(ctx))
			makePartsOld(t, pg)
		}
		put()
		require.NoError(t, db.Flush(ctx))
		db.head.Evict(math.MaxInt64 - 1)
		c.now = c.now.Add(3 * time.Hour)
		put()
		want := read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m"))
		require.Len(t, want, series)
		require.Len(t, want[lset("m", 7).String()], 3*samples)

		stream := func(streamDays int64, meanwhile func()) (map[string][]sample, int64) {
			db.streamDays = streamDays
			b := db.NewBudget("--the.flag", 0)
			q, err := db.ChunkQuerier(0, c.now.UnixMilli())
			require.NoError(t, err)
			set := q.Select(WithBudget(ctx, b), true, &promstorage.SelectHints{Start: 0, End: c.now.UnixMilli()}, eq("__name__", "m"))
			got := map[string][]sample{}
			before := ""
			for set.Next() {
				s := set.At()
				name := s.Labels().String()
				require.Less(t, before, name, "sorted")
				before = name
				it := s.Iterator(nil)
				for it.Next() {
					samples := it.At().Chunk.Iterator(nil)
					for samples.Next() == chunkenc.ValFloat {
						ts, v := samples.At()
						got[name] = append(got[name], sample{ts, v})
					}
				}
				require.NoError(t, it.Err())
				if meanwhile != nil && len(got) == 10 {
					meanwhile()
				}
			}
			require.NoError(t, set.Err())
			require.NoError(t, q.Close())
			require.Zero(t, b.Held())
			return got, b.Peak()
		}
		got, all := stream(seriesDays, nil)
		require.Equal(t, want, got)
		got, some := stream(12, nil)
		require.Equal(t, want, got)
		require.Less(t, some, all/4, "a few series at a time")
		got, _ = stream(12, func() {
			require.NoError(t, db.Flush(ctx))
			db.head.Evict(math.MaxInt64 - 1)
			c.now = c.now.Add(48 * time.Hour)
			for range 2 {
				require.NoError(t, db.Maintain(ctx))
				makePartsOld(t, pg)
			}
		})
		require.Equal(t, want, got)
		got, _ = stream(1, nil)
		require.Equal(t, want, got, "one by one, all from the database")
	})
}
