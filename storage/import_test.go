package storage

import (
	"context"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
	"github.com/promkeep/promkeep/storage/series"
)

func openImport(t testing.TB, cfg Config, opts ImportOptions) *Import {
	t.Helper()
	im, err := OpenImport(context.Background(), cfg, opts)
	require.NoError(t, err)
	t.Cleanup(im.Close)
	return im
}

// bring imports samples, in order of time, of one series as a batch.
func bring(t testing.TB, im *Import, l labels.Labels, samples ...sample) {
	t.Helper()
	b := im.NewBatch(len(samples)%2 == 0)
	var set series.Set
	for _, s := range samples {
		set.T, set.V = append(set.T, s.t), append(set.V, s.v)
	}
	require.NoError(t, b.Add(l, 0, &set))
	require.NoError(t, b.Commit(context.Background(), Source{1}, Mark{}))
}

// TestLaw2ImportedSamplesCountOnce imports what is there already, flushed, merged or in the log, and has samples written over what
// was imported: of two values the one that was accepted last counts, and it goes on counting while rows are merged.
func TestLaw2ImportedSamplesCountOnce(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(10 * time.Hour)}
		cfg := testConfig(t, pg, c)
		db := open(t, cfg)
		im := openImport(t, cfg, ImportOptions{})
		at := func(d time.Duration) int64 { return day.Add(d).UnixMilli() }
		l := lset("m", 1)
		check := func(stage string, want ...sample) {
			t.Helper()
			require.Equal(t, map[string][]sample{l.String(): want}, read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m")), stage)
		}
		write(t, db, l, sample{at(time.Hour), 1}, sample{at(2 * time.Hour), 1}, sample{at(3 * time.Hour), 1})
		require.NoError(t, db.Flush(ctx))
		bring(t, im, l, sample{at(2 * time.Hour), 2}, sample{at(4 * time.Hour), 2})
		require.NoError(t, db.Maintain(ctx))
		check("imported later", sample{at(time.Hour), 1}, sample{at(2 * time.Hour), 2}, sample{at(3 * time.Hour), 1}, sample{at(4 * time.Hour), 2})

		write(t, db, l, sample{at(4 * time.Hour), 3})
		check("written later", sample{at(time.Hour), 1}, sample{at(2 * time.Hour), 2}, sample{at(3 * time.Hour), 1}, sample{at(4 * time.Hour), 3})
		bring(t, im, l, sample{at(3 * time.Hour), 4})
		require.NoError(t, db.Flush(ctx))
		bring(t, im, l, sample{at(time.Hour), 4}, sample{at(3*time.Hour + time.Millisecond), 4})
		want := []sample{{at(time.Hour), 4}, {at(2 * time.Hour), 2}, {at(3 * time.Hour), 4}, {at(3*time.Hour + time.Millisecond), 4}, {at(4 * time.Hour), 3}}
		require.NoError(t, db.Maintain(ctx))
		check("merged", want...)
		for range 3 {
			c.now = c.now.Add(24 * time.Hour)
			makePartsOld(t, pg)
			require.NoError(t, db.Maintain(ctx))
			check("merged further", want...)
		}
		require.Zero(t, countRows(t, pg, "_promkeep.recent"))
		for range 2 {
			bring(t, im, l, sample{at(4 * time.Hour), 5}, sample{at(5 * time.Hour), 5})
			want = append(want[:4:4], sample{at(4 * time.Hour), 5}, sample{at(5 * time.Hour), 5})
			require.NoError(t, db.Maintain(ctx))
			check("into a merged day", want...)
		}
		require.NoError(t, db.Close())
		db = open(t, cfg)
		check("restarted", want...)
	})
}

// TestLaw2ImportBesideOneThatServes imports history of series that are being written, and of others, while samples are written,
// flushed and merged, and asks all the time: no sample that was there goes away, and in the end all are there, once.
func TestLaw2ImportBesideOneThatServes(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(13 * time.Hour)}
		cfg := testConfig(t, pg, c)
		db := open(t, cfg)
		const all, minutes = 40, 12 * 60
		value := func(i, minute int) sample {
			return sample{day.Add(time.Duration(minute) * time.Minute).UnixMilli(), float64(i*10_000 + minute)}
		}
		var background sync.WaitGroup
		done := make(chan struct{})
		finish := sync.OnceFunc(func() { close(done); background.Wait() })
		defer finish() // a test that fails must not leave them behind
		run := func(fn func(n int)) {
			background.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-done:
						return
					default:
						fn(n)
					}
				}
			})
		}
		// Half of the series are written at the same time, in other minutes than those that are imported.
		run(func(n int) {
			if n >= minutes/2 {
				time.Sleep(time.Millisecond)
				return
			}
			for i := range all / 2 {
				write(t, db, lset("m", i), value(i, 2*n))
			}
		})
		run(func(n int) {
			if n%3 == 0 {
				if err := db.Flush(ctx); err != nil {
					t.Error(err)
				}
			}
			if err := db.Maintain(ctx); err != nil {
				t.Error(err)
			}
			db.head.Evict(db.head.CoverFrom() + 60_000)
		})
		seen := map[string]int{}
		run(func(int) {
			for name, samples := range read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m")) {
				if len(samples) < seen[name] {
					t.Errorf("%s had %d samples, and has %d", name, seen[name], len(samples))
				}
				seen[name] = len(samples)
				for k := 1; k < len(samples); k++ {
					if samples[k].t <= samples[k-1].t {
						t.Errorf("%s has two samples at %d", name, samples[k].t)
					}
				}
			}
		})
		im := openImport(t, cfg, ImportOptions{})
		var importers sync.WaitGroup
		for _, part := range []int{0, 1} {
			importers.Go(func() {
				for from := part * 60; from < minutes; from += 120 {
					b := im.NewBatch(part == 0)
					for i := range all {
						var set series.Set
						for minute := from + 1; minute < from+60; minute += 2 {
							s := value(i, minute)
							set.T, set.V = append(set.T, s.t), append(set.V, s.v)
						}
						if err := b.Add(lset("m", i), 0, &set); err != nil {
							t.Error(err)
						}
					}
					if err := b.Commit(ctx, Source{2}, Mark{Unit: int64(from)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		importers.Wait()
		visible, err := im.Settle(ctx, time.Minute)
		require.NoError(t, err)
		require.True(t, visible)
		finish()
		for i := range all / 2 {
			for minute := 0; minute < minutes; minute += 2 {
				write(t, db, lset("m", i), value(i, minute))
			}
		}
		check := func(stage string) {
			t.Helper()
			got := read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m"))
			require.Len(t, got, all, stage)
			for i := range all {
				var want []sample
				for minute := range minutes {
					if minute%2 == 1 || i < all/2 {
						want = append(want, value(i, minute))
					}
				}
				require.Equal(t, want, got[lset("m", i).String()], "%s: series %d", stage, i)
			}
		}
		check("imported")
		require.NoError(t, db.Flush(ctx))
		require.NoError(t, db.Maintain(ctx))
		check("merged")
		require.NoError(t, db.Close())
		db = open(t, cfg)
		check("restarted")
	})
}

// TestImportedSeriesAreFound: series of the past that only an import knows, ones that are active, and ones that end later are found
// in the time of the imported samples, and nowhere else.
func TestImportedSeriesAreFound(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(10 * time.Hour)}
	cfg := testConfig(t, pg, c)
	db := open(t, cfg)
	im := openImport(t, cfg, ImportOptions{})
	at := func(d time.Duration) int64 { return day.Add(d).UnixMilli() }
	old := -20 * 24 * time.Hour
	values := func(from, to time.Duration, ms ...*labels.Matcher) []string {
		q, err := db.Querier(at(from), at(to))
		require.NoError(t, err)
		defer q.Close()
		v, _, err := q.LabelValues(ctx, "i", &promstorage.LabelHints{}, ms...)
		require.NoError(t, err)
		return v
	}
	write(t, db, lset("m", 1), sample{at(9 * time.Hour), 1})
	bring(t, im, lset("m", 1), sample{at(old), 1})
	bring(t, im, lset("m", 2), sample{at(old), 1}, sample{at(old + time.Hour), 1})
	bring(t, im, lset("m", 3), sample{at(9*time.Hour + 30*time.Minute), 1})
	require.NoError(t, db.Flush(ctx))
	require.NoError(t, db.Maintain(ctx))
	check := func(stage string, young ...string) {
		t.Helper()
		require.Equal(t, []string{"1", "2"}, values(old, old+time.Hour), stage)
		require.Equal(t, []string{"1", "2"}, values(old, old+time.Hour, eq("__name__", "m")), stage)
		require.Equal(t, young, values(8*time.Hour, 10*time.Hour), stage)
		require.Empty(t, values(old-48*time.Hour, old-24*time.Hour), stage)
		require.Len(t, read(t, db, at(old), at(old+time.Hour), eq("__name__", "m")), 2, stage)
		require.Len(t, read(t, db, at(8*time.Hour), at(10*time.Hour), eq("__name__", "m")), 2, stage)
	}
	check("imported", "1", "3")

	// The first ends: its own youngest sample is older than one that was imported.
	bring(t, im, lset("m", 1), sample{at(9*time.Hour + 45*time.Minute), 2})
	for range 4 {
		c.now = c.now.Add(3 * time.Hour)
		require.NoError(t, db.Flush(ctx))
		db.head.Evict(c.now.UnixMilli())
		require.NoError(t, db.Maintain(ctx))
	}
	require.Zero(t, db.head.Len())
	check("ended", "1", "3")
	write(t, db, lset("m", 2), sample{c.now.UnixMilli(), 9})
	check("one is written again", "1", "2", "3") // from its first sample to its last
	require.NoError(t, db.Close())
	db = open(t, cfg)
	check("restarted", "1", "2", "3")
}

// TestImportLeavesFlushesAlone: a leader that lost the answer to a commit must not take an import for its flush.
func TestImportLeavesFlushesAlone(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	cfg := testConfig(t, pg, &clock{day.Add(10 * time.Hour)})
	db := open(t, cfg)
	im := openImport(t, cfg, ImportOptions{})
	write(t, db, lset("m", 1), sample{day.UnixMilli(), 1})
	require.NoError(t, db.Flush(ctx))
	last, err := db.lastFlush(ctx)
	require.NoError(t, err)
	bring(t, im, lset("m", 1), sample{day.UnixMilli(), 2})
	committed, err := db.flushed(ctx, last+1)
	require.NoError(t, err)
	require.False(t, committed)
	write(t, db, lset("m", 1), sample{day.UnixMilli(), 3})
	require.NoError(t, db.Flush(ctx))
	require.NoError(t, db.Maintain(ctx))
	db.head.Evict(math.MaxInt64 - 1)
	require.Equal(t, []sample{{day.UnixMilli(), 3}}, read(t, db, 0, day.Add(time.Hour).UnixMilli(), eq("__name__", "m"))[lset("m", 1).String()])
}

// TestImportIsBounded: an import whose parts nobody merges merges them itself, and what is too old, too young or cannot be stored is
// counted, and not taken.
func TestImportIsBounded(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(10 * time.Hour)}
	cfg := testConfig(t, pg, c)
	cfg.Retention = 10 * 24 * time.Hour
	im := openImport(t, cfg, ImportOptions{})
	want := map[string][]sample{}
	for n := range 3 * maxUnmerged {
		l := lset("m", n%5)
		s := sample{day.Add(time.Duration(n) * time.Minute).UnixMilli(), float64(n)}
		bring(t, im, l, s)
		want[l.String()] = append(want[l.String()], s)
		var parts int
		require.NoError(t, pg.Pool(t).QueryRow(ctx, "SELECT count(*) FROM _promkeep.part WHERE sealed AND merged_upto < 9223372036854775807").Scan(&parts))
		require.LessOrEqual(t, parts, maxUnmerged)
	}
	b := im.NewBatch(true)
	minute := time.Minute.Milliseconds()
	now, old := c.now.UnixMilli(), c.now.Add(-cfg.Retention).UnixMilli()
	set := series.Set{}
	set.T = []int64{old - 2, old - 1, now - 500*minute, now + 9*minute, now + 11*minute}
	set.V = make([]float64, 5)
	require.NoError(t, b.Add(lset("other", 1), 0, &set))
	for _, l := range []labels.Labels{
		labels.FromStrings("a", "b"), labels.FromStrings("__name__", "x", "a", "\xff"), labels.FromStrings("__name__", "x", "a", "b\x00"),
		labels.FromStrings("__name__", "x", "a", string(make([]byte, 3000))),
	} {
		require.ErrorIs(t, b.Add(l, 0, &set), ErrLabels)
	}
	require.NoError(t, b.Commit(ctx, Source{1}, Mark{}))
	require.EqualValues(t, 2, im.Stats.TooOld.Load())
	require.EqualValues(t, 1, im.Stats.TooNew.Load())
	require.EqualValues(t, 4, im.Stats.BadSeries.Load())
	require.EqualValues(t, 3*maxUnmerged+2, im.Stats.Samples.Load())
	db := open(t, cfg)
	require.Equal(t, want, read(t, db, 0, now, eq("__name__", "m")))
	require.Len(t, read(t, db, 0, math.MaxInt64, eq("__name__", "other"))[lset("other", 1).String()], 2)
}

// TestImportAfterADeletion: what was imported is deleted as all else is, what is imported later counts; and an import that merges by
// itself brings nothing back.
func TestImportAfterADeletion(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(10 * time.Hour)}
	cfg := testConfig(t, pg, c)
	db := open(t, cfg)
	im := openImport(t, cfg, ImportOptions{})
	at := func(h time.Duration) int64 { return day.Add(h * time.Hour).UnixMilli() }
	l := lset("m", 1)
	write(t, db, l, sample{at(1), 1}, sample{at(2), 1})
	require.NoError(t, db.Flush(ctx))
	bring(t, im, l, sample{at(2), 2}, sample{at(3), 2})
	require.NoError(t, db.Delete(ctx, at(0), at(9), []*labels.Matcher{eq("__name__", "m")}))
	require.Empty(t, read(t, db, 0, at(9), eq("__name__", "m")))
	bring(t, im, l, sample{at(3), 3}, sample{at(4), 3})
	want := map[string][]sample{l.String(): {{at(3), 3}, {at(4), 3}}}
	check := func(stage string) {
		t.Helper()
		db.head.Evict(math.MaxInt64 - 1)
		require.Equal(t, want, read(t, db, 0, at(9), eq("__name__", "m")), stage)
	}
	check("imported")
	require.NoError(t, db.Close())
	_, err := pg.Pool(t).Exec(ctx, "UPDATE _promkeep.part SET sealed = true")
	require.NoError(t, err)
	require.NoError(t, im.merge(ctx))
	_, err = pg.Pool(t).Exec(ctx, "UPDATE _promkeep.part SET sealed = true")
	require.NoError(t, err)
	require.NoError(t, im.merge(ctx))
	require.Zero(t, countRows(t, pg, "_promkeep.recent"))
	db = open(t, cfg)
	check("merged by the import")
	require.NoError(t, db.CleanTombstones(ctx))
	require.NoError(t, db.Maintain(ctx))
	check("cleaned")
}
