package storage

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// BenchmarkLogSpace writes four hours of 15-second samples of 31,000 series in requests of 2,000 samples, each a commit of its own as at
// that rate in real time, and flushes every ten minutes of them. It reports the bytes of the log's payload for each sample, what the log's
// relations take after a flush, and the WAL for each sample: of appending, and of dropping what is flushed. There is a checkpoint between
// two flushes, as in real time, and where PostgreSQL would vacuum the log by itself this is done.
func BenchmarkLogSpace(b *testing.B) {
	const series, steps, request = 31_000, 40, 2_000
	for range b.N {
		server := pgtest.NewServer(b)
		pg := server.NewDB(b)
		pool := pg.SuperPool(b)
		c := &clock{day.Add(time.Hour)}
		db := open(b, testConfig(b, pg, c))
		ctx := context.Background()
		all := make([]labels.Labels, series)
		keys := make([]Key, series)
		for i := range all {
			all[i] = lset(fmt.Sprintf("metric_%d_total", i/60), i%60)
			keys[i] = keyOf(all[i])
		}
		number := func(sql string, args ...any) (n float64) {
			require.NoError(b, pool.QueryRow(ctx, sql, args...).Scan(&n))
			return n
		}
		wal := func() float64 { return number("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn") }
		size := func() float64 {
			return number("SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = '_promkeep'::regnamespace AND relname ~ '^log'")
		}
		var payload, appended, flushed, most, samples float64
		for flush := range 24 {
			before := wal()
			for step := range steps {
				c.now = c.now.Add(15 * time.Second)
				for from := 0; from < series; from += request {
					batch, err := db.NewBatch(ctx, "")
					require.NoError(b, err)
					for i := from; i < min(from+request, series); i++ {
						if !batch.Known(keys[i]) {
							batch.New(keys[i], all[i])
						}
						// A third are counters, a third decimals, a third constant.
						v := float64(i)
						switch i % 3 {
						case 0:
							v = float64((flush*steps + step) * (i%500 + 1))
						case 1:
							v = float64((i*7+step*13)%1000) / 100
						}
						batch.Float(c.now.UnixMilli()+int64(i/500), 0, v)
					}
					require.NoError(b, batch.Commit(ctx))
					batch.Release()
				}
			}
			samples += series * steps
			payload += number("SELECT sum(length(payload)) FROM " + wholeLog)
			appended += wal() - before
			_, err := pool.Exec(ctx, "CHECKPOINT")
			require.NoError(b, err)
			before = wal()
			require.NoError(b, db.Flush(ctx))
			flushed += wal() - before
			if number("SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = '_promkeep.log'::regclass") > 20_000 {
				_, err = pool.Exec(ctx, "VACUUM _promkeep.log")
				require.NoError(b, err)
			}
			most = max(most, size())
			b.Logf("after flush %d: %.1f MiB", flush, size()/(1<<20))
		}
		rows := number("SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = '_promkeep'::regnamespace AND relname !~ '^log'")
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(payload/samples, "payload-B/sample")
		b.ReportMetric(appended/samples, "append-WAL-B/sample")
		b.ReportMetric(flushed/samples, "flush-WAL-B/sample")
		b.ReportMetric(most/(1<<20), "MiB-log")
		b.ReportMetric(rows/(1<<20), "MiB-rest")
		require.NoError(b, db.Close())
	}
}
