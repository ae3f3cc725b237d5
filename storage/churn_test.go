package storage

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestLaw4ChurnForAWeek: a new pod every few minutes, in the time of the samples, whose series never get a second sample; PROMKEEP_TEST_CHURN says for how
// long. What is in memory, and what promkeep and PostgreSQL do for a pod or a query of the last hours, stays the same from day to
// day: where what is past the retention goes, and where everything is kept.
func TestLaw4ChurnForAWeek(t *testing.T) {
	length, every, metrics := 3*24*time.Hour, 30*time.Minute, 20
	if testing.Short() {
		length = 2 * 24 * time.Hour
	}
	if long := os.Getenv("PROMKEEP_TEST_CHURN"); long != "" {
		var err error
		length, err = time.ParseDuration(long)
		require.NoError(t, err)
		every, metrics = 5*time.Minute, 100
	}
	t.Run("retired", func(t *testing.T) {
		days, left := churn(t, length, every, metrics, 12*time.Hour)
		// The retention, the day that it may be in, and the hours between maintenance.
		perDay := int(24*time.Hour/every) * metrics
		for _, d := range days {
			require.LessOrEqual(t, d.series, 2*perDay)
		}
		require.LessOrEqual(t, left, 2*perDay/metrics*2+1)
	})
	t.Run("kept", func(t *testing.T) {
		days, _ := churn(t, length, every, metrics, 90*24*time.Hour)
		require.Equal(t, int(length/every)*metrics, days[len(days)-1].series)
	})
}

// The costs that are measured.
const (
	costWrite = iota
	costFlush
	costHour
	costPast
	costValues
	costs
	control = costs // the same work each time, which shows how fast the machine is
)

// churnDay is a day of churn.
type churnDay struct {
	heap, inHead, remembered, series int
	cpu                              [costs + 1][]time.Duration // of promkeep and PostgreSQL, each time
}

// median is what an operation takes on most of its calls.
func (d churnDay) median(cost int) time.Duration {
	all := slices.Clone(d.cpu[cost])
	slices.Sort(all)
	return all[len(all)/2]
}

// churn returns what it was like on each day, and how many label pairs there are in the end.
func churn(t *testing.T, length, every time.Duration, metrics int, retention time.Duration) (days []churnDay, pairs int) {
	const past = 6 * time.Hour // of a query
	pg := pgtest.New(t)
	pool := pg.Pool(t)
	ctx := context.Background()
	c := &clock{day}
	cfg := testConfig(t, pg, c)
	cfg.Retention = retention
	db := open(t, cfg)
	pod := func(i int) (out []labels.Labels) {
		for m := range metrics {
			out = append(out, labels.FromStrings("__name__", fmt.Sprintf("container_%d", m), "job", "kubelet", "pod", fmt.Sprintf("web-%d", i), "uid", fmt.Sprint(i*7)))
		}
		return out
	}
	count := func(table string) (n int) {
		require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n))
		return n
	}
	days = make([]churnDay, (length+24*time.Hour-1)/(24*time.Hour))
	for i := range int(length / every) {
		c.now = day.Add(time.Duration(i) * every)
		d := &days[time.Duration(i)*every/(24*time.Hour)]
		took := func(cost int, fn func()) {
			before := cpuTime(t, pool)
			fn()
			if c.now.Sub(day) >= past { // until then queries of the past find less
				d.cpu[cost] = append(d.cpu[cost], cpuTime(t, pool)-before)
			}
		}
		took(costWrite, func() {
			b, err := db.NewBatch(ctx, "")
			require.NoError(t, err)
			defer b.Release()
			for _, l := range pod(i) {
				b.New(keyOf(l), l)
				b.Float(c.now.UnixMilli(), 0, float64(i))
			}
			require.NoError(t, b.Commit(ctx))
		})
		took(costFlush, func() { require.NoError(t, db.Flush(ctx)) })
		if i%4 == 0 {
			// Parts age by the database's clock, which cannot be set.
			_, err := pool.Exec(ctx, "UPDATE _promkeep.part SET opened_at = opened_at - $1::interval", 4*every)
			require.NoError(t, err)
			require.NoError(t, db.Maintain(ctx))
		}
		query := func(length time.Duration) {
			got := read(t, db, c.now.Add(-length).UnixMilli(), c.now.UnixMilli(), eq("__name__", "container_3"))
			require.Len(t, got, min(i, int(length/every))+1)
		}
		took(costHour, func() { query(time.Hour) })
		took(costPast, func() { query(past) })
		took(costValues, func() {
			labelValues(t, db, DefaultTenant, c.now.Add(-past).UnixMilli(), c.now.UnixMilli(), 0, "pod")
		})
		took(control, func() {
			var n int
			require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM generate_series(1, 5000)").Scan(&n))
			for range 2000 {
				n += len(fmt.Sprint(n))
			}
		})
		d.inHead = max(d.inHead, db.head.Len())
		d.remembered = max(d.remembered, int(db.catalogue.RememberedBytes()))
		if i%16 == 0 || i == int(length/every)-1 {
			d.series = max(d.series, count("_promkeep.series"))
			var mem runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&mem)
			d.heap = max(d.heap, int(mem.HeapAlloc))
		}
	}
	for i, d := range days {
		t.Logf("day %d: at most %d series in memory, %d in the catalogue, %d KiB of results, heap of %d KiB; CPU of writing a pod %s, of a flush %s, "+
			"of queries of an hour %s and of six %s, of the values of a label %s, of what is always the same %s", i+1, d.inHead, d.series, d.remembered>>10, d.heap>>10,
			d.median(costWrite), d.median(costFlush), d.median(costHour), d.median(costPast), d.median(costValues), d.median(control))
	}
	first, last := days[0], days[len(days)-1]
	require.LessOrEqual(t, last.inHead, first.inHead+2*metrics*int(time.Hour/every)+metrics)
	require.Less(t, last.heap, first.heap+16<<20)
	require.LessOrEqual(t, last.remembered, 64<<20)
	// The days are some seconds apart, in which a machine may become slower.
	slower := max(1, float64(last.median(control))/float64(first.median(control)))
	for cost := range costs {
		// Other work on the machine makes caches cold, but no more than this; a cost that grew with the series of all days would.
		most := time.Duration(float64(first.median(cost))*1.5*slower) + 500*time.Microsecond
		require.LessOrEqual(t, last.median(cost), most, "cost %d, on a machine that was %.2f times slower", cost, slower)
	}
	return days, count("_promkeep.label")
}

// cpuTime is what this process and PostgreSQL's for the database have computed so far. It is 0 where the system does not tell.
func cpuTime(t *testing.T, pool *pgxpool.Pool) (sum time.Duration) {
	rows, err := pool.Query(context.Background(), "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	require.NoError(t, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		if err != nil {
			continue
		}
		var ns int64
		_, err = fmt.Fscan(bytes.NewReader(stat), &ns)
		require.NoError(t, err)
		sum += time.Duration(ns)
	}
	if len(pids) > 0 && sum == 0 {
		return 0
	}
	var self syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &self))
	return sum + time.Duration(self.Utime.Nano()+self.Stime.Nano())
}
