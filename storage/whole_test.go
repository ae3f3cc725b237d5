package storage

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestBundlesWithNothingToMergeArePassedOn: bundles whose series have no other rows go through both merges as they are, between others that do not, and
// series of which something was deleted or came late are merged as ever. All readers go on giving the same answers, step by step.
func TestBundlesWithNothingToMergeArePassedOn(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(10 * time.Hour)}
		w := newWorld(t, pg, c)
		const n = 400
		r := rand.New(rand.NewPCG(1, 2))
		// fill writes 20 samples of each of n series of both metrics, of some 120 bytes a row.
		fill := func(from time.Duration, name string, first, last int) {
			b, err := w.db.NewBatch(ctx, "")
			require.NoError(t, err)
			defer b.Release()
			for i := first; i < last; i++ {
				l := lset(name, i)
				if key := keyOf(l); !b.Known(key) {
					b.New(key, l)
				}
				if w.want[l.String()] == nil {
					w.want[l.String()] = map[int64]float64{}
				}
				at := day.Add(from).UnixMilli() + int64(i%50)
				for range 20 {
					at += 15000 + r.Int64N(10)
					v := r.Float64()
					b.Float(at, 0, v)
					w.want[l.String()][at] = v
				}
			}
			require.NoError(t, b.Commit(ctx))
		}
		flush := func() { t.Helper(); require.NoError(t, w.db.Flush(ctx)) }
		// bundles are the data of a table's rows of at least 16 KiB.
		bundles := func(table string) map[string]bool {
			t.Helper()
			rows, err := pg.Pool(t).Query(ctx, "SELECT md5(data) FROM "+table+" WHERE encoding = 16 AND length(data) >= 16384")
			require.NoError(t, err)
			out := map[string]bool{}
			for rows.Next() {
				var sum string
				require.NoError(t, rows.Scan(&sum))
				out[sum] = true
			}
			require.NoError(t, rows.Err())
			return out
		}
		common := func(a, b map[string]bool) (n int) {
			for s := range a {
				if b[s] {
					n++
				}
			}
			return n
		}
		// inOrder requires that table's rows do not overlap, and count what is packed in them.
		inOrder := func(table string) {
			t.Helper()
			var overlapping int
			require.NoError(t, pg.Pool(t).QueryRow(ctx, "SELECT count(*) FROM (SELECT series_id <= lag(last_id) OVER (ORDER BY series_id, last_id) AS bad FROM "+table+") AS x WHERE bad").Scan(&overlapping))
			require.Zero(t, overlapping)
		}

		fill(9*time.Hour, "m", 0, n)
		fill(9*time.Hour, "other", 0, n)
		flush()
		fill(9*time.Hour+10*time.Minute, "other", n/2, n/2+20) // these have two rows
		flush()
		w.check("flushed", true)
		flushed := bundles("_promkeep.recent")
		require.GreaterOrEqual(t, len(flushed), 4)

		c.now = day.Add(13 * time.Hour)
		settle(t, w.db, pg)
		w.check("merged to windows", true)
		windows := bundles("_promkeep.recent")
		passed := common(flushed, windows)
		require.NotZero(t, passed, "some were passed on")
		require.Less(t, passed, len(flushed), "some were merged")
		inOrder("_promkeep.recent")
		require.Equal(t, 2*n, countPacked(t, pg, "_promkeep.recent"))

		w.erase(day.Add(9*time.Hour+time.Minute), day.Add(9*time.Hour+3*time.Minute), eq("__name__", "m"), eq("i", "7"))
		w.check("deleted", true)
		settle(t, w.db, pg)
		w.check("deleted, rewritten", true)
		inOrder("_promkeep.recent")
		windows = bundles("_promkeep.recent")

		// Not yet written again when the day is merged.
		w.erase(day.Add(9*time.Hour+time.Minute), day.Add(9*time.Hour+3*time.Minute), eq("__name__", "m"), labels.MustNewMatcher(labels.MatchRegexp, "i", "30[0-9]"))
		c.now = day.Add(30 * time.Hour)
		for range 3 {
			settle(t, w.db, pg)
			w.check("merged to days", true)
		}
		require.Zero(t, countPacked(t, pg, "_promkeep.recent"))
		days := bundles("_promkeep.chunk")
		passed = common(windows, days)
		require.NotZero(t, passed, "some were passed on")
		require.Less(t, passed, len(windows), "some were merged")
		inOrder("_promkeep.chunk")
		require.Equal(t, 2*n, countPacked(t, pg, "_promkeep.chunk"))
		w.restart()
		w.check("started again", true)

		fill(9*time.Hour+40*time.Minute, "m", 0, n) // late, so the day has a second row of each
		flush()
		c.now = c.now.Add(6 * time.Hour)
		for range 3 {
			settle(t, w.db, pg)
		}
		w.check("late", true)
		require.Equal(t, 3*n, countPacked(t, pg, "_promkeep.chunk"))
	})
}
