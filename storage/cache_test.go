package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// heap is the live bytes on the heap.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // of pools, too
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestLaw4TheCacheCountsWhatItTakes: the bound of the cache is one of memory, not of the bytes of packed rows alone, which are less than
// what describes them when few samples come between two flushes.
func TestLaw4TheCacheCountsWhatItTakes(t *testing.T) {
	if testing.Short() {
		t.Skip("three million samples, one goroutine")
	}
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

// TestLaw4AnActiveSeriesTakesTwoKiB at most, with ten labels, samples every 15 seconds, those of two hours in the cache, and those of ten
// minutes waiting for a flush.
func TestLaw4AnActiveSeriesTakesTwoKiB(t *testing.T) {
	if testing.Short() {
		t.Skip("five million samples")
	}
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(20 * time.Hour)}
	db := open(t, testConfig(t, pg, c))
	const series, flushes, samples = 10_000, 12, 40
	before := heap()
	at := day.Add(18 * time.Hour).UnixMilli()
	random := rand.New(rand.NewPCG(1, 1))
	counters := make([]float64, series)
	round := func() {
		const request = 1_000
		for from := 0; from < series; from += request {
			b, err := db.NewBatch(ctx, "")
			require.NoError(t, err)
			for i := from; i < from+request; i++ {
				l := labels.FromStrings("__name__", fmt.Sprintf("metric_%d_total", i/100), "cluster", "one", "instance", fmt.Sprintf("10.0.0.%d:9100", i%100),
					"job", "node", "namespace", "monitoring", "pod", fmt.Sprintf("node-exporter-%d", i%100), "device", fmt.Sprintf("d%d", i%7),
					"node", fmt.Sprintf("node-%d", i%100), "container", "node-exporter", "endpoint", "metrics")
				if key := keyOf(l); !b.Known(key) {
					b.New(key, l)
				}
				for k := range samples {
					if i%2 == 0 { // half of all series never change
						counters[i] += float64(random.IntN(1000))
					}
					b.Float(at+int64(k)*15_000, 0, counters[i])
				}
			}
			require.NoError(t, b.Commit(ctx))
			b.Release()
		}
		at += samples * 15_000
	}
	for range flushes {
		round()
		require.NoError(t, db.Flush(ctx))
	}
	round()
	each := (heap() - before) / series
	t.Logf("%d bytes a series, of which %d cached and %d not flushed", each, db.head.CachedBytes()/series, db.head.UnflushedBytes()/series)
	require.LessOrEqual(t, each, int64(2048))
	runtime.KeepAlive(counters)
}
