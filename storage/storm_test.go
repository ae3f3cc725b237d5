package storage

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestAStormOfNewSeriesIsCreatedInOneRound: a rollout replaces 100,000 series, in fifty requests. What comes while the catalogue is at work
// is created together, and what would be more than may wait is told to come back.
func TestAStormOfNewSeriesIsCreatedInOneRound(t *testing.T) {
	if testing.Short() {
		t.Skip("100,000 series")
	}
	pg := pgtest.New(t)
	ctx := context.Background()
	registry := prometheus.NewRegistry()
	cfg := testConfig(t, pg, &clock{day.Add(time.Hour)})
	cfg.Registerer = registry
	db := open(t, cfg)
	rounds := func() uint64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "promkeep_catalogue_resolve_duration_seconds" {
				return f.GetMetric()[0].GetHistogram().GetSampleCount()
			}
		}
		t.Fatal("rounds of creating series are not counted")
		return 0
	}
	send := func(pod string, series int) error {
		b, err := db.NewBatch(ctx, "")
		if err != nil {
			return err
		}
		defer b.Release()
		for i := range series {
			l := labels.FromStrings("__name__", fmt.Sprintf("m_%d_total", i/50), "i", fmt.Sprint(i%50), "job", "test", "pod", pod)
			b.New(keyOf(l), l)
			b.Float(day.UnixMilli(), 0, 1)
		}
		return b.Commit(ctx)
	}
	// While the catalogue is held, a first round waits for it, and the requests that follow gather to the next.
	db.resolver.lifecycle.Lock()
	let := sync.OnceFunc(db.resolver.lifecycle.Unlock)
	defer let() // a test that fails must not keep the database from closing
	waiting := func() (running bool, requests, series int) {
		db.resolver.mu.Lock()
		defer db.resolver.mu.Unlock()
		return db.resolver.running, len(db.resolver.waiting), db.resolver.queued
	}
	const requests, each = 50, 2_000
	errs := make([]error, requests+1)
	var group sync.WaitGroup
	group.Go(func() { errs[requests] = send("first", 1) })
	require.Eventually(t, func() bool { running, n, _ := waiting(); return running && n == 0 }, time.Minute, time.Millisecond)
	for i := range requests {
		group.Go(func() { errs[i] = send(fmt.Sprint("new-", i), each) })
	}
	require.Eventually(t, func() bool { _, n, series := waiting(); return n == requests && series == requests*each }, time.Minute, time.Millisecond)
	require.ErrorIs(t, send("too many", maxUnresolved-requests*each+1), ErrOverloaded)
	began := time.Now()
	let()
	group.Wait()
	t.Logf("%d series created and written in %v", requests*each, time.Since(began).Round(time.Millisecond))
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, rounds())
	require.Equal(t, requests*each+1, db.head.Len())
	require.Equal(t, requests*each+1, countRows(t, pg, "_promkeep.series"))
	// What is known needs no round.
	require.NoError(t, send("new-7", each))
	require.EqualValues(t, 2, rounds())
}
