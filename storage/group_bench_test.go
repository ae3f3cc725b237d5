package storage

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/pgtest"
	"github.com/promkeep/promkeep/storage/samplelog"
)

// BenchmarkGroupCommit appends requests of 2,000 samples (20 KB) to the log of a server with fsync on: as many senders at once, each of
// which sends the next request when the one before is acknowledged, or as many requests per second, however long each takes.
// It reports how they share commits, how long an acknowledgement takes, and the CPU time of promkeep and PostgreSQL for each request.
func BenchmarkGroupCommit(b *testing.B) {
	const samples, size, duration = 2_000, 20_000, 4 * time.Second
	run := func(name string, load func(until time.Time, append func())) {
		b.Run(name, func(b *testing.B) {
			server := pgtest.NewServer(b)
			pg := server.NewDB(b)
			ctx := context.Background()
			connect := func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, pg.URI) }
			conn, err := connect(ctx)
			require.NoError(b, err)
			logger := slog.New(slog.DiscardHandler)
			_, err = schema.Migrate(ctx, conn, schema.TimescaleDBOff, logger)
			require.NoError(b, err)
			require.NoError(b, conn.Close(ctx))
			var commits atomic.Int64
			log, err := samplelog.Open(ctx, samplelog.Config{Connect: connect, Logger: logger, Replayed: func([]byte) error { return nil },
				ObserveCommit: func(int, int, time.Duration) { commits.Add(1) }})
			require.NoError(b, err)
			defer log.Close()
			blocks := [][]byte{make([]byte, size/3), make([]byte, size/3), make([]byte, size/3)}
			var mu sync.Mutex
			var took []time.Duration
			began := time.Now()
			self, database := ownCPU(), postgresCPU(b, pg)
			load(began.Add(duration), func() {
				at := time.Now()
				if err := log.Append(&samplelog.Item{Blocks: blocks}); err != nil {
					b.Error(err)
				}
				mu.Lock()
				took = append(took, time.Since(at))
				mu.Unlock()
			})
			seconds := time.Since(began).Seconds()
			n := float64(len(took))
			slices.Sort(took)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(n/seconds, "requests/s")
			b.ReportMetric(float64(commits.Load())/seconds, "commits/s")
			b.ReportMetric(n*samples/float64(commits.Load()), "samples/commit")
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric((ownCPU()-self).Seconds()*1e6/n, "go-µs/request")
			b.ReportMetric((postgresCPU(b, pg)-database).Seconds()*1e6/n, "pg-µs/request")
		})
	}
	for _, rate := range []int{10, 100, 300} {
		run(fmt.Sprintf("rate=%d", rate), func(until time.Time, send func()) {
			var group sync.WaitGroup
			for next := time.Now(); next.Before(until); next = next.Add(time.Second / time.Duration(rate)) {
				time.Sleep(time.Until(next))
				group.Go(send)
			}
			group.Wait()
		})
	}
	for _, senders := range []int{1, 2, 4, 8, 16, 64, 256} {
		run(fmt.Sprintf("senders=%d", senders), func(until time.Time, send func()) {
			var group sync.WaitGroup
			for range senders {
				group.Go(func() {
					for time.Now().Before(until) {
						send()
					}
				})
			}
			group.Wait()
		})
	}
}
