package storage

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

func TestRestsFollowStepsAndTheBacklog(t *testing.T) {
	now := day
	var slept time.Duration
	p := &pacer{now: func() time.Time { return now }, sleep: func(d time.Duration) { slept += d }}
	step := func(took time.Duration) time.Duration {
		slept = 0
		p.begin()
		now = now.Add(took)
		p.rest()
		return slept
	}
	for waiting, want := range []time.Duration{300, 300, 200, 100, 0, 0} {
		p.waiting = waiting
		require.Equal(t, want*time.Millisecond, step(300*time.Millisecond), "%d parts wait", waiting)
	}
	p.waiting = 1
	require.Equal(t, maxRest, step(time.Minute))
	require.Zero(t, step(0))
	require.Equal(t, 900*time.Millisecond+maxRest, p.rested)
	p.hurry.Add(1)
	require.Zero(t, step(time.Second))
	p.hurry.Add(-1)
	require.Equal(t, time.Second, step(time.Second))
}

// TestBackgroundWorkRests: half of the time of a round of merges is rest, in which others flush and delete; who asks for the work does not wait for rests.
func TestBackgroundWorkRests(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(time.Hour)}
	cfg := testConfig(t, pg, c)
	reg := prometheus.NewRegistry()
	cfg.Registerer = reg
	db := open(t, cfg)
	put := func(metrics int) {
		for i := range metrics {
			write(t, db, lset(fmt.Sprint("m", i), i), sample{c.now.UnixMilli(), 1})
		}
		require.NoError(t, db.Flush(ctx))
	}
	var rests, slept time.Duration
	db.pace.sleep = func(d time.Duration) {
		if rests++; rests == 1 {
			require.NoError(t, db.Flush(ctx))
			require.NoError(t, db.Delete(ctx, 0, c.now.UnixMilli(), []*labels.Matcher{eq("__name__", "m7")}))
		}
		slept += d
		time.Sleep(d)
	}
	put(400) // each metric is a row of the table, and the first step takes 64
	c.now = day.Add(2 * time.Hour)
	began := time.Now()
	require.NoError(t, db.round(ctx))
	all := time.Since(began)
	worked := time.Duration(gathered(t, reg, "promkeep_background_seconds_total")["merge "] * float64(time.Second))
	require.GreaterOrEqual(t, rests, time.Duration(2))
	require.Equal(t, slept, db.pace.rested)
	t.Logf("%d rests of %s in a round of %s, merges took %s", rests, slept, all, worked)
	require.Greater(t, slept, worked/4)
	require.Less(t, slept, all*2/3)
	require.Len(t, read(t, db, 0, c.now.UnixMilli(), eq("job", "test")), 399)

	before := rests
	put(100)
	c.now = day.Add(4 * time.Hour)
	require.NoError(t, db.Maintain(ctx))
	require.Equal(t, before, rests)
	require.Zero(t, gathered(t, reg, "promkeep_merge_backlog_parts")["0 sealed "])
}

// BenchmarkMerge merges what 5,000 series got in two hours, and then their day, with rests between the steps and without.
func BenchmarkMerge(b *testing.B) {
	for _, hurry := range []int32{1, 0} {
		b.Run(map[int32]string{0: "rests", 1: "hurry"}[hurry], func(b *testing.B) {
			const series, flushes, samples = 5000, 12, 40
			ctx := context.Background()
			var toWindows, toDays, stored time.Duration
			for range b.N {
				pg := pgtest.New(b)
				c := &clock{day.Add(time.Minute)}
				db := open(b, testConfig(b, pg, c))
				db.pace.hurry.Add(hurry)
				for flush := range flushes {
					for from := 0; from < series; from += 500 {
						batch, err := db.NewBatch(ctx, "")
						require.NoError(b, err)
						for i := from; i < from+500; i++ {
							l := lset(fmt.Sprint("m", i/100), i)
							if key := keyOf(l); !batch.Known(key) {
								batch.New(key, l)
							}
							for k := range samples {
								n := flush*samples + k
								batch.Float(day.UnixMilli()+int64(n)*15_000, 0, float64(n*i+(n*i)%17))
							}
						}
						require.NoError(b, batch.Commit(ctx))
						batch.Release()
					}
					require.NoError(b, db.Flush(ctx))
				}
				c.now = day.Add(2*time.Hour + time.Minute)
				began := time.Now()
				makePartsOld(b, pg)
				require.NoError(b, db.round(ctx))
				toWindows += time.Since(began)
				c.now = day.Add(28 * time.Hour)
				began = time.Now()
				makePartsOld(b, pg)
				require.NoError(b, db.round(ctx))
				toDays += time.Since(began)
				stored += series * flushes * samples
				require.NoError(b, db.Close())
			}
			b.ReportMetric(float64(toWindows)/float64(stored), "windows-ns/sample")
			b.ReportMetric(float64(toDays)/float64(stored), "days-ns/sample")
		})
	}
}
