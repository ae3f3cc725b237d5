package app_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// TestHeavyQueriesDoNotStopWrites asks a hundred heavy queries at once while samples, of known and of new series, go on being
// written and flushed: every write is acknowledged, and every query is answered or told to come back.
func TestHeavyQueriesDoNotStopWrites(t *testing.T) {
	t.Parallel()
	p := start(t, freePort(t), nil, "--data-dir", dataDir(t), "--storage.flush-interval", "1s", "--storage.head.cache-size", "1B",
		"--query.max-concurrency", "8").ready(t)
	const series, samples = 500, 240
	now := time.Now()
	for from := 0; from < series; from += 50 {
		var request []prompb.TimeSeries
		for i := from; i < from+50; i++ {
			var all []prompb.Sample
			for k := range samples {
				all = append(all, prompb.Sample{Timestamp: now.Add(-time.Duration(k) * 15 * time.Second).UnixMilli(), Value: float64(i * k)})
			}
			// Oldest first, as senders do.
			for a, b := 0, len(all)-1; a < b; a, b = a+1, b-1 {
				all[a], all[b] = all[b], all[a]
			}
			request = append(request, timeSeries(all, "__name__", "heavy_total", "instance", fmt.Sprint(i), "job", fmt.Sprint(i%7)))
		}
		status, body, err := p.write(context.Background(), request...)
		require.NoError(t, err)
		require.Equal(t, http.StatusNoContent, status, body)
	}

	done := make(chan struct{})
	var writes atomic.Int64
	var slowest time.Duration
	var writer sync.WaitGroup
	finish := sync.OnceFunc(func() { close(done); writer.Wait() })
	defer finish()
	writer.Add(1)
	go func() {
		defer writer.Done()
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			one := []prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: float64(n)}}
			began := time.Now()
			status, body, err := p.write(context.Background(), timeSeries(one, "__name__", "written", "n", "known"), timeSeries(one, "__name__", "written", "n", fmt.Sprint(n)))
			if err != nil || status != http.StatusNoContent {
				t.Errorf("write %d: %d %s %v", n, status, body, err)
				return
			}
			slowest = max(slowest, time.Since(began))
			writes.Add(1)
		}
	}()

	var answered, refused atomic.Int64
	var queries sync.WaitGroup
	client := &http.Client{Timeout: 2 * time.Minute}
	for n := range 100 {
		queries.Add(1)
		go func() {
			defer queries.Done()
			resp, err := client.Get(p.url + "/api/v1/query_range?" + url.Values{
				"query": {fmt.Sprintf(`sum by (job) (rate(heavy_total[5m])) + on (job) group_left max by (job) (avg_over_time(heavy_total{instance!="%d"}[20m]))`, n)},
				"start": {seconds(now.Add(-time.Hour))}, "end": {seconds(now)}, "step": {"15"},
			}.Encode())
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			switch resp.StatusCode {
			case http.StatusOK:
				answered.Add(1)
			case http.StatusServiceUnavailable:
				if resp.Header.Get("Retry-After") == "" {
					t.Errorf("a 503 does not say when to come back: %s", body)
				}
				refused.Add(1)
			default:
				t.Errorf("query: %d %s", resp.StatusCode, body)
			}
		}()
	}
	queries.Wait()
	finish()
	t.Logf("%d queries answered, %d told to come back; meanwhile %d writes acknowledged, the slowest after %s", answered.Load(), refused.Load(), writes.Load(), slowest)
	require.NotZero(t, answered.Load())
	require.NotZero(t, writes.Load())
}
