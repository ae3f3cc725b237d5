package storage

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// world is a store beside a plain map of what it should hold.
type world struct {
	t    *testing.T
	pg   *pgtest.DB
	cfg  Config
	db   *DB
	want map[string]map[int64]float64
}

func newWorld(t *testing.T, pg *pgtest.DB, c *clock) *world {
	w := &world{t: t, pg: pg, cfg: testConfig(t, pg, c), want: map[string]map[int64]float64{}}
	w.db = open(t, w.cfg)
	return w
}

func (w *world) put(l labels.Labels, samples ...sample) {
	w.t.Helper()
	write(w.t, w.db, l, samples...)
	name := l.String()
	if w.want[name] == nil {
		w.want[name] = map[int64]float64{}
	}
	for _, s := range samples {
		w.want[name][s.t] = s.v
	}
}

// erase deletes in the store and in the map.
func (w *world) erase(from, to time.Time, ms ...*labels.Matcher) {
	w.t.Helper()
	mint, maxt := from.UnixMilli(), to.UnixMilli()
	require.NoError(w.t, w.db.Delete(context.Background(), mint, maxt, ms))
	w.forget(mint, maxt, ms...)
}

func (w *world) forget(mint, maxt int64, ms ...*labels.Matcher) {
	for name, samples := range w.want {
		l, err := parseLabels(name)
		require.NoError(w.t, err)
		if matchesAll(l, ms) {
			maps.DeleteFunc(samples, func(t int64, _ float64) bool { return t >= mint && t <= maxt })
		}
	}
}

func parseLabels(s string) (labels.Labels, error) {
	var name, i, job string
	if _, err := fmt.Sscanf(s, `{__name__=%q, i=%q, job=%q}`, &name, &i, &job); err != nil {
		return labels.EmptyLabels(), err
	}
	return labels.FromStrings("__name__", name, "i", i, "job", job), nil
}

// check compares all readers with the map: the querier and, when all is flushed, SQL.
func (w *world) check(stage string, flushed bool) {
	w.t.Helper()
	for _, name := range []string{"m", "other"} {
		want := map[string][]sample{}
		for l, samples := range w.want {
			parsed, err := parseLabels(l)
			require.NoError(w.t, err)
			if parsed.Get("__name__") != name || len(samples) == 0 {
				continue
			}
			for _, t := range slices.Sorted(maps.Keys(samples)) {
				want[l] = append(want[l], sample{t, samples[t]})
			}
		}
		got := read(w.t, w.db, 0, math.MaxInt64, eq("__name__", name))
		requireSame(w.t, want, got, stage+": "+name)
		// A part of it, so that bounds of reading and of deletions meet.
		mint, maxt := day.Add(9*time.Hour+30*time.Minute).UnixMilli(), day.Add(11*time.Hour).UnixMilli()
		for l, samples := range read(w.t, w.db, mint, maxt, eq("__name__", name)) {
			part := slices.DeleteFunc(slices.Clone(want[l]), func(s sample) bool { return s.t < mint || s.t > maxt })
			require.Equal(w.t, part, samples, "%s: a part of %s", stage, l)
		}
		if !flushed {
			continue
		}
		inSQL := inSQLAs(w.t, w.pg, DefaultTenant, name)
		requireSame(w.t, want, inSQL, stage+": "+name+" in SQL")
	}
}

// requireSame says briefly where two answers differ.
func requireSame(t *testing.T, want, got map[string][]sample, stage string) {
	t.Helper()
	for l := range got {
		require.Contains(t, want, l, stage)
	}
	for l, samples := range want {
		for i := range samples {
			if i >= len(got[l]) || got[l][i] != samples[i] {
				require.Failf(t, stage, "%s: %d samples instead of %d, the first that differs is number %d: %v", l, len(got[l]), len(samples), i, samples[i])
			}
		}
		require.Len(t, got[l], len(samples), "%s: %s", stage, l)
	}
}

func (w *world) restart() {
	w.t.Helper()
	require.NoError(w.t, w.db.Close())
	w.db = open(w.t, w.cfg)
}

// stored counts the samples in packed rows that count, erased ones included.
func (w *world) stored() (n int) {
	w.t.Helper()
	require.NoError(w.t, w.pg.Pool(w.t).QueryRow(context.Background(), `SELECT (SELECT coalesce(sum(n), 0) FROM _promkeep.recent) + (SELECT coalesce(sum(n), 0) FROM _promkeep.chunk)`).Scan(&n))
	return n
}

func (w *world) held() (n int) {
	for _, samples := range w.want {
		n += len(samples)
	}
	return n
}

func (w *world) deletions() (n int) {
	w.t.Helper()
	return countRows(w.t, w.pg, "_promkeep.deletion")
}

// TestDelete deletes at every stage of a sample's way: parts of series, whole ones, by name alone, with samples that come in the
// range afterwards; and looks through the querier and SQL, at once, after a restart, and after the rows were rewritten.
func TestDelete(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(10 * time.Hour)}
		w := newWorld(t, pg, c)
		fill := func(name string, from time.Time, samples int, v float64) {
			for i := range 20 {
				var all []sample
				for k := range samples {
					all = append(all, sample{from.Add(time.Duration(k) * time.Minute).UnixMilli(), v + float64(i*1000+k)})
				}
				w.put(lset(name, i), all...)
			}
		}
		at := func(h float64) time.Time { return day.Add(time.Duration(h * float64(time.Hour))) }
		fill("m", at(8), 120, 0)
		fill("other", at(8), 120, 0.5)
		w.check("head", false)

		w.erase(at(8.5), at(9), eq("__name__", "m"), eq("i", "3"))
		require.Equal(t, 1, w.deletions())
		var waiting bool
		require.NoError(t, pg.Pool(t).QueryRow(ctx, "SELECT items = 1 AND oldest <= now() FROM promkeep.maintenance WHERE job = 'delete'").Scan(&waiting))
		require.True(t, waiting)
		w.check("deleted in the head", true)
		w.restart()
		w.check("restarted", true)

		// What comes afterwards counts, in the head and when it is flushed and merged with what was erased.
		w.put(lset("m", 3), sample{at(8.75).UnixMilli(), -1}, sample{at(8.75).UnixMilli() + 1, -2})
		w.check("written again", false)
		w.restart()
		w.check("written again, replayed", false)
		require.NoError(t, w.db.Flush(ctx))
		w.check("written again, flushed", true)
		w.erase(at(9.25), at(9.5), eq("__name__", "m"))
		w.check("a metric, flushed", true)
		w.put(lset("m", 21), sample{at(9.4).UnixMilli(), 21})
		require.NoError(t, w.db.Flush(ctx))
		w.check("a series that came later", true)

		require.NoError(t, w.db.CleanTombstones(ctx))
		require.Zero(t, w.deletions())
		require.Empty(t, w.db.erasedNow())
		w.check("cleaned", true)
		require.Equal(t, w.held(), w.stored(), "nothing that was erased is left")
		w.db.head.Evict(math.MaxInt64 - 1)
		w.check("cleaned, evicted", true)

		// Merges leave out what is erased.
		w.erase(at(8), at(8.1), eq("__name__", "other"), eq("i", "1"))
		w.erase(time.UnixMilli(0), at(1000), eq("__name__", "other"), eq("i", "2"))
		w.put(lset("other", 2), sample{at(9).UnixMilli(), 2})
		require.NoError(t, w.db.Flush(ctx))
		c.now = at(13)
		require.NoError(t, w.db.chunks.Seal(ctx, w.db.log.Epoch(), c.now))
		w.db.flushMu.Lock()
		err := w.db.merge(ctx)
		w.db.flushMu.Unlock()
		require.NoError(t, err)
		require.NoError(t, w.db.chunks.DropMerged(ctx))
		require.Equal(t, 2, w.deletions())
		require.Equal(t, w.held(), w.stored(), "a merge takes out what is erased")
		w.check("merged to windows", true)
		w.restart()
		w.check("merged to windows, restarted", true)

		// Days, compressed where there is a columnstore.
		c.now = day.Add(30 * time.Hour)
		settle(t, w.db, pg)
		require.Zero(t, countRows(t, pg, "_promkeep.recent"))
		require.Zero(t, w.deletions())
		w.check("merged to days", true)
		w.erase(at(8.2), at(8.4), eq("__name__", "m"), labels.MustNewMatcher(labels.MatchRegexp, "i", "[0-4]"))
		w.erase(at(8.2), at(8.4), eq("__name__", "other"))
		w.erase(at(8.3), at(9.7), eq("__name__", "other"), eq("i", "7"))
		w.check("deleted in days", true)
		w.put(lset("m", 4), sample{at(8.3).UnixMilli(), -4})
		require.NoError(t, w.db.Flush(ctx))
		w.check("deleted in days, written again", true)
		w.restart()
		w.check("deleted in days, restarted", true)
		require.NoError(t, w.db.Maintain(ctx))
		require.Zero(t, w.deletions())
		w.check("deleted in days, rewritten", true)
		require.Equal(t, w.held(), w.stored())
		if pg.HasTimescaleDB && !pg.ApacheOnly {
			var outside int
			require.NoError(t, pg.Pool(t).QueryRow(ctx, `SELECT count(*) FROM _timescaledb_catalog.chunk WHERE status & 1 = 1 AND status & 8 = 8`).Scan(&outside))
			require.Zero(t, outside, "a day has rows outside of the columnstore")
		}
		w.restart()
		w.check("deleted in days, rewritten, restarted", true)

		// Everything, and the store goes on.
		w.erase(time.UnixMilli(0), time.UnixMilli(math.MaxInt64), labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
		require.Empty(t, read(t, w.db, 0, math.MaxInt64, eq("job", "test")))
		w.put(lset("m", 3), sample{c.now.UnixMilli(), 7}, sample{at(9).UnixMilli(), 8})
		w.check("all gone", false)
		require.NoError(t, w.db.Flush(ctx))
		require.NoError(t, w.db.CleanTombstones(ctx))
		w.check("all gone, rewritten", true)
		require.Equal(t, 2, w.stored())
		c.now = day.Add(60 * time.Hour)
		settle(t, w.db, pg)
		w.check("all gone, merged", true)
	}, pgtest.AllEditions)
}

// TestDeleteHistograms: native histograms go like floats.
func TestDeleteHistograms(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	db := open(t, testConfig(t, pg, &clock{day.Add(10 * time.Hour)}))
	put := func(t0 time.Time, n int64) {
		b, err := db.NewBatch(ctx, "")
		require.NoError(t, err)
		defer b.Release()
		l := lset("h", 1)
		if key := keyOf(l); !b.Known(key) {
			b.New(key, l)
		}
		for i := range n {
			require.NoError(t, b.Histogram(t0.Add(time.Duration(i)*time.Minute).UnixMilli(), 0, tsdbutil.GenerateTestHistogram(i)))
		}
		require.NoError(t, b.Commit(ctx))
	}
	count := func() (n int) {
		q, err := db.Querier(0, math.MaxInt64)
		require.NoError(t, err)
		defer q.Close()
		set := q.Select(ctx, true, nil, eq("__name__", "h"))
		for set.Next() {
			it := set.At().Iterator(nil)
			for it.Next() != 0 {
				n++
			}
			require.NoError(t, it.Err())
		}
		require.NoError(t, set.Err())
		return n
	}
	put(day.Add(8*time.Hour), 60)
	require.NoError(t, db.Delete(ctx, day.Add(8*time.Hour+10*time.Minute).UnixMilli(), day.Add(8*time.Hour+20*time.Minute).UnixMilli(), []*labels.Matcher{eq("__name__", "h")}))
	require.Equal(t, 49, count())
	require.NoError(t, db.CleanTombstones(ctx))
	require.Equal(t, 49, count())
	db.head.Evict(math.MaxInt64 - 1)
	require.Equal(t, 49, count())
}

// TestLaw2DeletionIsSeenWholeOrNotAtAll asks all the time while series are deleted, rewritten, merged, and written again: each answer has
// all of a deletion or nothing of it.
func TestLaw2DeletionIsSeenWholeOrNotAtAll(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(30 * time.Hour)}
		db := open(t, testConfig(t, pg, c))
		const series, samples, rounds = 20, 100, 6
		// A put writes its number, in a day that gets merged and in the hours that memory covers. What readers see of one that is under way is not
		// bound to be whole.
		var finished atomic.Int64
		put := func() {
			number := float64(finished.Load() + 1)
			for _, from := range []time.Time{day.Add(8 * time.Hour), day.Add(27 * time.Hour)} {
				b, err := db.NewBatch(ctx, "")
				require.NoError(t, err)
				for i := range series {
					l := lset("m", i)
					if key := keyOf(l); !b.Known(key) {
						b.New(key, l)
					}
					for k := range samples {
						b.Float(from.Add(time.Duration(k)*time.Minute).UnixMilli(), 0, number)
					}
				}
				require.NoError(t, b.Commit(ctx))
				b.Release()
			}
			finished.Add(1)
		}
		put()
		require.NoError(t, db.Flush(ctx))
		settle(t, db, pg)
		done := make(chan struct{})
		var readers sync.WaitGroup
		finish := sync.OnceFunc(func() { close(done); readers.Wait() })
		defer finish() // a test that fails must not leave readers behind
		whole, gone := 0, 0
		var answers atomic.Int64
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				last := finished.Load()
				counts := map[float64]int{}
				for _, all := range read(t, db, 0, math.MaxInt64, eq("__name__", "m")) {
					for _, s := range all {
						counts[s.v]++
					}
				}
				for number := float64(1); number <= float64(last); number++ {
					switch counts[number] {
					case 2 * series * samples:
						whole++
					case 0:
						gone++
					default:
						t.Errorf("an answer has %d of the %d samples of put %g", counts[number], 2*series*samples, number)
						return
					}
				}
				answers.Add(1)
			}
		})
		for round := range rounds {
			require.NoError(t, db.Delete(ctx, 0, math.MaxInt64, []*labels.Matcher{eq("__name__", "m")}))
			if round%2 == 0 {
				require.NoError(t, db.CleanTombstones(ctx))
			}
			put()
			if round%3 == 0 {
				settle(t, db, pg)
			}
			db.head.Evict(math.MaxInt64 - 1)
			enough := answers.Load() + 2
			require.Eventually(t, func() bool { return t.Failed() || answers.Load() >= enough }, time.Minute, time.Millisecond)
		}
		finish()
		require.Positive(t, whole)
		require.Positive(t, gone)
	})
}
