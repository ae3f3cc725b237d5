package storage

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestLaw4ChurnForAWeek: a new pod every few minutes, in the time of the samples; PROMKEEP_TEST_CHURN says for how long. What is in memory, what the
// catalogue holds and what PostgreSQL does for a pod or a query of the last hour stays the same from day to day.
func TestLaw4ChurnForAWeek(t *testing.T) {
	length, every := 3*24*time.Hour, 30*time.Minute
	if testing.Short() {
		length = 36 * time.Hour
	}
	if long := os.Getenv("PROMKEEP_TEST_CHURN"); long != "" {
		var err error
		length, err = time.ParseDuration(long)
		require.NoError(t, err)
		every = 5 * time.Minute
	}
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day}
	cfg := testConfig(t, pg, c)
	cfg.Retention = 12 * time.Hour
	db := open(t, cfg)
	const metrics = 20
	pod := func(i int) (out []labels.Labels) {
		for m := range metrics {
			out = append(out, labels.FromStrings("__name__", fmt.Sprintf("container_%d", m), "job", "kubelet", "pod", fmt.Sprintf("web-%d", i), "uid", fmt.Sprint(i*7)))
		}
		return out
	}
	type load struct {
		heap, inHead, remembered, series, pairs int
		write, query                            time.Duration
	}
	var quarters [4]load
	var n [4]int
	for i := range int(length / every) {
		c.now = day.Add(time.Duration(i) * every)
		quarter := i * 4 / int(length/every)
		q := &quarters[quarter]
		began := time.Now()
		b, err := db.NewBatch(ctx, "")
		require.NoError(t, err)
		for _, l := range pod(i) {
			b.New(keyOf(l), l)
			b.Float(c.now.UnixMilli(), 0, float64(i))
		}
		require.NoError(t, b.Commit(ctx))
		b.Release()
		q.write += time.Since(began)
		n[quarter]++
		require.NoError(t, db.Flush(ctx))
		if i%4 == 0 {
			require.NoError(t, db.Maintain(ctx))
		}
		began = time.Now()
		got := read(t, db, c.now.Add(-time.Hour).UnixMilli(), c.now.UnixMilli(), eq("__name__", "container_3"))
		q.query += time.Since(began)
		require.Len(t, got, min(i, int(time.Hour/every))+1)
		labelValues(t, db, DefaultTenant, c.now.Add(-6*time.Hour).UnixMilli(), c.now.UnixMilli(), 0, "pod")
		q.inHead = max(q.inHead, db.head.Len())
		q.remembered = max(q.remembered, int(db.catalogue.RememberedBytes()))
		q.series = max(q.series, countRows(t, pg, "_promkeep.series"))
		q.pairs = max(q.pairs, countRows(t, pg, "_promkeep.label"))
		if i%16 == 0 {
			var mem runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&mem)
			q.heap = max(q.heap, int(mem.HeapAlloc))
		}
	}
	for i, q := range quarters {
		t.Logf("quarter %d: at most %d series in memory, %d in the catalogue with %d pairs, %d KiB of results, heap of %d KiB; a pod takes %s to write, a query of the last hour %s",
			i+1, q.inHead, q.series, q.pairs, q.remembered>>10, q.heap>>10, q.write/time.Duration(n[i]), q.query/time.Duration(n[i]))
	}
	first, last := quarters[1], quarters[3]
	perDay := int(24*time.Hour/every) * metrics
	require.LessOrEqual(t, last.inHead, first.inHead+2*metrics*int(time.Hour/every)+metrics)
	// The retention, the day that it may be in, and the hours between maintenance.
	require.LessOrEqual(t, last.series, 2*perDay)
	require.LessOrEqual(t, last.pairs, 2*perDay/metrics*2+1)
	require.Less(t, last.heap, first.heap+16<<20)
	require.LessOrEqual(t, last.remembered, 64<<20)
}
