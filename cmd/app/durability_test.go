package app_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// ledger is what the test knows of each series: what was sent, and what of it was acknowledged. The value of a sample
// tells its series and number, so that a wrong one is recognised.
type ledger struct {
	mu    sync.Mutex
	sent  map[string]map[int64]float64
	acked map[string]map[int64]float64
	acks  atomic.Int64
}

func newLedger() *ledger {
	return &ledger{sent: map[string]map[int64]float64{}, acked: map[string]map[int64]float64{}}
}

func (l *ledger) note(book map[string]map[int64]float64, series string, samples []prompb.Sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if book[series] == nil {
		book[series] = map[int64]float64{}
	}
	for _, s := range samples {
		book[series][s.Timestamp] = s.Value
	}
}

// writer sends requests until ctx ends, each again until it is acknowledged, as Prometheus does.
func (l *ledger) writer(ctx context.Context, t *testing.T, p *atomic.Pointer[process], id int, began time.Time) {
	const seriesPerWriter = 20
	for n := 0; ctx.Err() == nil; n++ {
		var request []prompb.TimeSeries
		names := make([]string, 0, seriesPerWriter)
		for s := range seriesPerWriter {
			var samples []prompb.Sample
			for k := range 5 {
				at := began.Add(time.Duration(n*5+k) * 10 * time.Millisecond)
				samples = append(samples, prompb.Sample{Timestamp: at.UnixMilli(), Value: float64(id*1_000_000_000 + s*10_000_000 + n*5 + k)})
			}
			name := fmt.Sprintf(`{"__name__":"durable","series":"%d","writer":"%d"}`, s, id)
			names = append(names, name)
			l.note(l.sent, name, samples)
			request = append(request, timeSeries(samples, "__name__", "durable", "series", fmt.Sprint(s), "writer", fmt.Sprint(id)))
		}
		for ctx.Err() == nil {
			status, body, err := p.Load().write(context.Background(), request...)
			if err == nil && status/100 == 2 {
				for i, name := range names {
					l.note(l.acked, name, request[i].Samples)
				}
				l.acks.Add(1)
				break
			}
			if err == nil && status/100 == 4 {
				t.Errorf("a valid request was refused for good: %d %s", status, body)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// verify compares promkeep's samples with the ledger: each acknowledged one is there once, and nothing that was never sent.
func (l *ledger) verify(t *testing.T, p *process) {
	t.Helper()
	got := matrix(t, p.url, `durable[2h]`, time.Now().Add(10*time.Minute))
	total := 0
	for series, want := range l.acked {
		seen := map[int64]bool{}
		for _, s := range got[series] {
			require.False(t, seen[s.Timestamp], "%s has two samples at %d", series, s.Timestamp)
			seen[s.Timestamp] = true
			sent, ok := l.sent[series][s.Timestamp]
			require.True(t, ok, "%s has a sample at %d that was never sent", series, s.Timestamp)
			require.Equal(t, sent, s.Value, "%s at %d", series, s.Timestamp)
		}
		for at := range want {
			require.True(t, seen[at], "%s lost its acknowledged sample at %d", series, at)
		}
		total += len(want)
	}
	require.NotZero(t, total)
	t.Logf("%d acknowledged requests, %d acknowledged samples in %d series: all there, once", l.acks.Load(), total, len(l.acked))
}

// underLoad runs writers, calls kill ten times at random moments, and verifies.
func underLoad(t *testing.T, kill func(p *process) *process) {
	dir := dataDir(t)
	port := freePort(t)
	args := []string{"--data-dir", dir, "--storage.flush-interval", "700ms"}
	restart := func() *process { return start(t, port, nil, args...).ready(t) }
	var current atomic.Pointer[process]
	current.Store(restart())

	l := newLedger()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var writers sync.WaitGroup
	began := time.Now().Add(-time.Hour)
	for id := range 4 {
		writers.Add(1)
		go func() {
			defer writers.Done()
			l.writer(ctx, t, &current, id, began)
		}()
	}
	for n := range 10 {
		before := l.acks.Load()
		require.Eventually(t, func() bool { return l.acks.Load() > before+5 }, time.Minute, 5*time.Millisecond,
			"no writes are acknowledged after kill %d", n)
		time.Sleep(time.Duration(rand.IntN(1200)) * time.Millisecond)
		if p := kill(current.Load()); p == nil {
			current.Store(restart())
		}
	}
	before := l.acks.Load()
	require.Eventually(t, func() bool { return l.acks.Load() > before+5 }, time.Minute, 5*time.Millisecond, "no writes are acknowledged after the last kill")
	cancel()
	writers.Wait()
	l.verify(t, current.Load())
	// Once more after a clean stop, from what is in the database alone.
	current.Load().stop(t)
	require.NoError(t, current.Load().err, "a clean stop exits with 0")
	l.verify(t, restart())
}

// TestLaw1DurableBeforeAck kills promkeep, and in another run the PostgreSQL postmaster, ten times each at random moments
// under concurrent load, while flushes go on: every acknowledged sample is there, exactly once (law 2 as well).
func TestLaw1DurableBeforeAck(t *testing.T) {
	t.Parallel()
	t.Run("kill -9 promkeep", func(t *testing.T) {
		t.Parallel()
		underLoad(t, func(p *process) *process {
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGKILL))
			<-p.exited
			return nil
		})
	})
	t.Run("kill -9 the postmaster", func(t *testing.T) {
		t.Parallel()
		kills := 0
		underLoad(t, func(p *process) *process {
			var dir string
			for i, a := range p.cmd.Args {
				if a == "--data-dir" {
					dir = p.cmd.Args[i+1]
				}
			}
			// The file may still name one that was killed before.
			require.Eventually(t, func() bool {
				pid := postmaster(t, dir)
				return pid > 0 && syscall.Kill(pid, syscall.SIGKILL) == nil
			}, time.Minute, 10*time.Millisecond)
			if kills++; kills == 5 {
				// Promkeep goes with it this time. One that has to start its server again and again waits twice as long each time, half a minute in the end.
				require.NoError(t, p.cmd.Process.Signal(syscall.SIGKILL))
				<-p.exited
				return nil
			}
			return p
		})
	})
}
