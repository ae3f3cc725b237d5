package storage

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestGroupCommit: requests that arrive while a commit is under way share the next one.
func TestGroupCommit(t *testing.T) {
	pg := pgtest.New(t)
	registry := prometheus.NewRegistry()
	cfg := testConfig(t, pg, &clock{day.Add(time.Hour)})
	cfg.Registerer = registry
	db := open(t, cfg)
	const senders, requests = 32, 40
	for i := range senders {
		write(t, db, lset("m", i), sample{day.UnixMilli(), 0})
	}
	commits := func() uint64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "promkeep_log_commit_duration_seconds" {
				return f.GetMetric()[0].GetHistogram().GetSampleCount()
			}
		}
		t.Fatal("no commits are counted")
		return 0
	}
	before := commits()
	var group sync.WaitGroup
	for i := range senders {
		group.Add(1)
		go func() {
			defer group.Done()
			for k := range requests {
				if err := tryWrite(db, "", lset("m", i), sample{day.UnixMilli() + int64(k), float64(k)}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	group.Wait()
	n := commits() - before
	t.Logf("%d requests in %d commits", senders*requests, n)
	require.Less(t, n, uint64(senders*requests/2))
	got := read(t, db, 0, day.Add(time.Hour).UnixMilli(), eq("__name__", "m"))
	require.Len(t, got, senders)
	for l, s := range got {
		require.Len(t, s, requests, fmt.Sprint(l))
	}
}
