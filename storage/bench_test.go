package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// BenchmarkIngest writes an hour of 15-second samples of 31,000 series in requests of 2,000 samples from four senders, and
// flushes as often as the default flush interval would in real time. It reports the CPU of this process and of PostgreSQL
// for each sample.
func BenchmarkIngest(b *testing.B) {
	const series, steps, request, senders = 31_000, 240, 2_000, 4
	for range b.N {
		server := pgtest.NewServer(b)
		pg := server.NewDB(b)
		c := &clock{day.Add(time.Hour)}
		db := open(b, testConfig(b, pg, c))
		all := make([]labels.Labels, series)
		keys := make([]Key, series)
		for i := range all {
			all[i] = labels.FromStrings("__name__", fmt.Sprintf("metric_%d_total", i/60), "cluster", "one", "instance", fmt.Sprintf("10.0.0.%d:9100", i%60),
				"job", "node", "namespace", "monitoring", "pod", fmt.Sprintf("node-exporter-%d", i%60), "device", fmt.Sprintf("d%d", i%7))
			keys[i] = keyOf(all[i])
		}
		values := make([]float64, series)
		rates := make([]float64, series)
		for i := range rates {
			rates[i] = float64(rand.IntN(1000))
		}
		ctx := context.Background()
		began := time.Now()
		self, database := ownCPU(), postgresCPU(b, pg)
		var flushing time.Duration
		for step := range steps {
			c.now = day.Add(time.Hour + time.Duration(step)*15*time.Second)
			var group sync.WaitGroup
			for sender := range senders {
				group.Add(1)
				go func() {
					defer group.Done()
					for from := sender * request; from < series; from += senders * request {
						batch, err := db.NewBatch(ctx, "")
						if err != nil {
							b.Error(err)
							return
						}
						for i := from; i < min(from+request, series); i++ {
							if !batch.Known(keys[i]) {
								batch.New(keys[i], all[i])
							}
							values[i] += rates[i]
							if i%3 == 0 {
								values[i] += float64((i * step) % 17)
							}
							batch.Float(c.now.UnixMilli(), 0, values[i])
						}
						if err := batch.Commit(ctx); err != nil {
							b.Error(err)
						}
						batch.Release()
					}
				}()
			}
			group.Wait()
			if step%40 == 39 {
				at := time.Now()
				require.NoError(b, db.Flush(ctx))
				flushing += time.Since(at)
			}
		}
		took := time.Since(began)
		ingest := ownCPU() - self
		c.now = c.now.Add(2 * time.Hour)
		require.NoError(b, db.Maintain(ctx))
		n := float64(series * steps)
		b.ReportMetric(n/took.Seconds()/1e6, "Msamples/s")
		b.ReportMetric(ingest.Seconds()*1e9/n, "go-ns/sample")
		b.ReportMetric((ownCPU()-self-ingest).Seconds()*1e9/n, "go-merge-ns/sample")
		b.ReportMetric((postgresCPU(b, pg)-database).Seconds()*1e9/n, "pg-ns/sample")
		b.ReportMetric(flushing.Seconds()*1e9/n, "flush-wall-ns/sample")
		db.Close()
	}
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// postgresCPU is the CPU time of all processes of the server, those that have ended included.
func postgresCPU(b *testing.B, pg *pgtest.DB) time.Duration {
	var dir string
	require.NoError(b, pg.SuperPool(b).QueryRow(context.Background(), "SHOW data_directory").Scan(&dir))
	pidFile, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	require.NoError(b, err)
	line, _, _ := strings.Cut(string(pidFile), "\n")
	var ticks int64
	entries, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, e := range entries {
		raw, err := os.ReadFile(e)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		f := strings.Fields(rest)
		pid := filepath.Base(filepath.Dir(e))
		if pid != line && f[1] != line {
			continue
		}
		for i := 11; i <= 12; i++ {
			n, _ := strconv.ParseInt(f[i], 10, 64)
			ticks += n
		}
		if pid == line {
			for i := 13; i <= 14; i++ {
				n, _ := strconv.ParseInt(f[i], 10, 64)
				ticks += n
			}
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
