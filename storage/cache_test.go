package storage

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestLaw4TheCacheCountsWhatItTakes: the bound of the cache is one of memory, not of the bytes of packed rows alone, which are less than
// what describes them when few samples come between two flushes.
func TestLaw4TheCacheCountsWhatItTakes(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	for name, samples := range map[string]int{"three samples a row": 3, "forty samples a row": 40} {
		t.Run(name, func(t *testing.T) {
			c := &clock{day.Add(20 * time.Hour)}
			db := open(t, testConfig(t, pg, c))
			const series, flushes = 5_000, 12
			at := day.Add(19 * time.Hour).UnixMilli()
			round := func() {
				b, err := db.NewBatch(ctx, "")
				require.NoError(t, err)
				defer b.Release()
				for i := range series {
					l := lset("m", i)
					if key := keyOf(l); !b.Known(key) {
						b.New(key, l)
					}
					for k := range samples {
						b.Float(at+int64(k)*15_000, 0, float64(i*k%97))
					}
				}
				at += int64(samples) * 15_000
				require.NoError(t, b.Commit(ctx))
			}
			heap := func() int64 {
				var m runtime.MemStats
				runtime.GC()
				runtime.GC() // of pools, too
				runtime.ReadMemStats(&m)
				return int64(m.HeapAlloc)
			}
			for range 2 { // until blocks and buffers are there
				round()
				require.NoError(t, db.Flush(ctx))
			}
			memory, counted := heap(), db.head.CachedBytes()
			for range flushes {
				round()
				require.NoError(t, db.Flush(ctx))
			}
			memory, counted = heap()-memory, db.head.CachedBytes()-counted
			t.Logf("%d rows: %d bytes each on the heap, %d counted", flushes*series, memory/flushes/series, counted/flushes/series)
			require.InDelta(t, 1, float64(memory)/float64(counted), 0.3)
			require.NoError(t, db.Close())
		})
	}
}
