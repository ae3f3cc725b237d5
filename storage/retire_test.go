package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestSeriesPastTheRetentionLeaveTheCatalogue, with the label sets, pairs and metrics that only they had; those that live on or came back
// stay, and one that comes back afterwards begins anew.
func TestSeriesPastTheRetentionLeaveTheCatalogue(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(time.Hour)}
		cfg := testConfig(t, pg, c)
		cfg.Retention = 3 * 24 * time.Hour
		db := open(t, cfg)
		put := func(l labels.Labels) { write(t, db, l, sample{c.now.UnixMilli(), 1}) }
		old := labels.FromStrings("__name__", "old", "only", "here", "shared", "x")
		shared := labels.FromStrings("__name__", "old_too", "shared", "x")
		lives := labels.FromStrings("__name__", "lives", "shared", "x")
		back := labels.FromStrings("__name__", "back", "b", "1")
		for _, l := range []labels.Labels{old, shared, lives, back} {
			put(l)
		}
		next := func(d time.Duration) {
			c.now = c.now.Add(d)
			put(lives)
			endSeries(t, db)
		}
		next(24 * time.Hour)
		require.Equal(t, 3, countRows(t, pg, "_promkeep.series WHERE ended IS NOT NULL"))
		put(back)
		next(50 * time.Hour)
		require.Equal(t, 4, countRows(t, pg, "_promkeep.series"), "nothing is past the retention")
		require.Len(t, read(t, db, 0, c.now.UnixMilli(), eq("__name__", "old")), 1)

		next(23 * time.Hour)
		names := func(table string) (out []string) {
			require.NoError(t, pg.Pool(t).QueryRow(ctx, "SELECT array_agg(name::text ORDER BY name) FROM _promkeep."+table).Scan(&out))
			return out
		}
		require.Equal(t, []string{"back", "lives"}, names("metric"))
		require.Equal(t, []string{"b", "shared"}, names("label"))
		require.Equal(t, 2, countRows(t, pg, "_promkeep.label_set"))
		require.Empty(t, read(t, db, 0, c.now.UnixMilli(), eq("__name__", "old")))
		require.Equal(t, []string{"back", "lives"}, labelValues(t, db, DefaultTenant, 0, c.now.UnixMilli(), 0, "__name__"))
		require.NotEmpty(t, read(t, db, 0, c.now.UnixMilli(), eq("__name__", "back"))[back.String()])

		put(old)
		require.Len(t, read(t, db, 0, c.now.UnixMilli(), eq("only", "here"))[old.String()], 1)
		require.NoError(t, db.Close())
		db = open(t, cfg)
		require.Len(t, read(t, db, 0, c.now.UnixMilli(), eq("only", "here"))[old.String()], 1)
	})
}

// TestWritersBringSeriesBackWhileTheyRetire: several writers, of several tenants, write old series again while these are being taken out of the
// catalogue; whatever was acknowledged is there, after a crash too, no ID stands for two series, and every series has its labels.
func TestWritersBringSeriesBackWhileTheyRetire(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(time.Hour)}
		cfg := testConfig(t, pg, c)
		cfg.Retention = 24 * time.Hour
		const series, writers = 300, 4
		name := func(i int) labels.Labels {
			return labels.FromStrings("__name__", fmt.Sprintf("m%d", i%7), "i", fmt.Sprint(i), "pair", fmt.Sprint(i/3))
		}
		tenant := func(i int) string { return []string{DefaultTenant, "other"}[i%2] }
		rounds := 4
		if testing.Short() {
			rounds = 2
		}
		db := open(t, cfg)
		retired := func() float64 { return testutil.ToFloat64(db.metrics.seriesRetired) }
		var gone float64
		for round := range rounds {
			for i := range series {
				require.NoError(t, tryWrite(db, tenant(i), name(i), sample{c.now.UnixMilli(), float64(round)}))
			}
			c.now = c.now.Add(12 * time.Hour)
			endSeries(t, db)
			require.Zero(t, db.head.Len())
			// Writers are at work before the retention passes their series, and go on until it has.
			c.now = c.now.Add(48 * time.Hour)
			at := c.now.UnixMilli()
			db.seen(at)
			var group sync.WaitGroup
			var failed atomic.Pointer[error]
			began := make(chan struct{}, writers)
			written := make([]map[int]bool, writers)
			for w := range writers {
				random := rand.New(rand.NewPCG(uint64(round), uint64(w)))
				written[w] = map[int]bool{}
				group.Go(func() {
					var once sync.Once
					begun := func() { once.Do(func() { began <- struct{}{} }) }
					defer begun() // when it fails, too
					for n := range series {
						i := random.IntN(series/2) * 2
						if w >= writers/2 {
							i++
						}
						if err := tryWrite(db, tenant(i), name(i), sample{at, float64(100*round + i)}); err != nil {
							failed.Store(&err)
							return
						}
						written[w][i] = true
						if n == 5 {
							begun()
						}
					}
				})
			}
			for range writers {
				<-began
			}
			require.NoError(t, db.Maintain(ctx))
			db.retired = retirement{}
			require.NoError(t, db.Maintain(ctx))
			group.Wait()
			require.Nil(t, failed.Load())
			want := map[string]map[string]float64{DefaultTenant: {}, "other": {}}
			for _, of := range written {
				for i := range of {
					want[tenant(i)][name(i).String()] = float64(100*round + i)
				}
			}
			check := func(stage string) {
				t.Helper()
				for who, all := range want {
					got := readAs(t, WithTenant(ctx, who), db, at-1, at, labels.MustNewMatcher(labels.MatchRegexp, "__name__", "m.*"))
					require.Len(t, got, len(all), stage)
					for l, v := range all {
						require.Equal(t, []sample{{at, v}}, got[l], "%s: %s of %s", stage, l, who)
					}
				}
			}
			check("written")
			// As after a crash: nothing is flushed, the log has it all.
			require.NoError(t, db.Close())
			gone = max(gone, retired())
			db = open(t, cfg)
			check("replayed")
			require.Zero(t, countRows(t, pg, "(SELECT unnest(labels) AS id FROM _promkeep.label_set EXCEPT SELECT id FROM _promkeep.label) AS pairs"))
			require.Zero(t, countRows(t, pg, "(SELECT id & 137438953471 FROM _promkeep.series EXCEPT SELECT id FROM _promkeep.label_set) AS sets"))
			require.Zero(t, countRows(t, pg, "(SELECT (id >> 37)::int4 FROM _promkeep.series EXCEPT SELECT id FROM _promkeep.metric) AS metrics"))
			require.Zero(t, countRows(t, pg, "(SELECT tenant, metric, labels FROM promkeep.series GROUP BY 1, 2, 3 HAVING count(*) > 1) AS twice"))
		}
		require.Positive(t, gone, "no series was taken out while writers were at work")
	})
}

// TestAnotherProcessRetires: what this process remembers of pairs and metrics that another one has removed is not used again, and what it
// remembers of searches is not served.
func TestAnotherProcessRetires(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(time.Hour)}
	db := open(t, testConfig(t, pg, c))
	write(t, db, lset("m", 1), sample{day.UnixMilli(), 1})
	c.now = day.Add(24 * time.Hour)
	endSeries(t, db)
	ask := func() int { return len(read(t, db, 0, day.Add(time.Hour).UnixMilli(), eq("__name__", "m"))) }
	values := func() []string { return labelValues(t, db, DefaultTenant, 0, day.Add(time.Hour).UnixMilli(), 0, "i") }
	require.Equal(t, 1, ask())
	require.Equal(t, []string{"1"}, values())

	pool := pg.Pool(t)
	other := catalogue.New(pool, pool)
	ids, err := other.Retirable(ctx, 1<<30, 10)
	require.NoError(t, err)
	require.Len(t, ids, 1)
	done, err := other.Retire(ctx, db.fence, ids, 1<<30)
	require.NoError(t, err)
	require.Equal(t, catalogue.Retired{Series: 1, LabelSets: 1}, done)
	_, err = other.RetireNames(ctx, db.fence)
	require.NoError(t, err)
	require.Zero(t, countRows(t, pg, "_promkeep.label")+countRows(t, pg, "_promkeep.metric"))
	require.Zero(t, ask())

	write(t, db, lset("m", 1), sample{c.now.UnixMilli(), 1})
	require.Equal(t, 1, countRows(t, pg, "promkeep.series WHERE metric = 'm' AND labels = '{\"i\": \"1\", \"job\": \"test\"}'"))
	require.Zero(t, ask(), "it began later")
	// A series of the past that another process makes is found.
	s := &catalogue.Series{Tenant: 1, Labels: lset("m", 2), Started: catalogue.Hour(day.UnixMilli())}
	require.NoError(t, other.Create(ctx, []*catalogue.Series{s}))
	require.NoError(t, other.End(ctx, db.fence, []uint64{s.ID}, []int64{day.UnixMilli()}))
	require.Contains(t, values(), "2")
}

// TestWhatIsRecalledCountsOnlyWhileItIsTrue: a query takes the series that it found last time for those that there are, and the snapshot in which it reads their
// rows says whether they still are.
func TestWhatIsRecalledCountsOnlyWhileItIsTrue(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(time.Hour)}
	db := open(t, testConfig(t, pg, c))
	write(t, db, lset("m", 1), sample{day.UnixMilli(), 1})
	c.now = day.Add(24 * time.Hour)
	endSeries(t, db)
	pool := pg.Pool(t)
	other := catalogue.New(pool, pool)
	// elsewhere has another process make a series of the past, with the samples of m's first.
	elsewhere := func(name string, i int) {
		t.Helper()
		s := &catalogue.Series{Tenant: 1, Labels: lset(name, i), Started: catalogue.Hour(day.UnixMilli())}
		require.NoError(t, other.Create(ctx, []*catalogue.Series{s}))
		require.NoError(t, other.End(ctx, db.fence, []uint64{s.ID}, []int64{day.UnixMilli()}))
		_, err := pool.Exec(ctx, `INSERT INTO _promkeep.recent (part, series_id, last_id, start, "end", n, members, version, encoding, data)
			SELECT part, $1::int8, $1::int8, start, "end", n, members, version, encoding, data FROM _promkeep.recent ORDER BY series_id LIMIT 1`, int64(s.ID))
		require.NoError(t, err)
	}
	until := day.Add(time.Hour).UnixMilli()
	misses := func() uint64 {
		_, n := db.catalogue.Remembered()
		return n
	}
	// ask returns how many series there are, and whether they were recalled.
	ask := func(name string) (series int, recalled bool) {
		before := misses()
		series = len(read(t, db, 0, until, eq("__name__", name)))
		return series, misses() == before
	}
	check := func(name string, series int, recalled bool) {
		t.Helper()
		got, was := ask(name)
		require.Equal(t, series, got)
		require.Equal(t, recalled, was)
	}
	recall := func() func(int64) bool {
		t.Helper()
		_, holds := db.catalogue.Recall(1, 0, min(until, db.head.CoverFrom()-1), eq("__name__", "m"))
		require.NotNil(t, holds)
		return holds
	}
	version := func() (v int64) {
		require.NoError(t, pool.QueryRow(ctx, "SELECT version FROM _promkeep.catalogue").Scan(&v))
		return v
	}

	check("m", 1, false)
	check("m", 1, true)
	holds := recall()
	require.True(t, holds(version()))
	elsewhere("m", 2)
	require.False(t, holds(version()), "another process has changed something")
	budget := NewBudget("", 0)
	q, err := db.Querier(0, until)
	require.NoError(t, err)
	set := q.Select(WithBudget(ctx, budget), false, nil, eq("__name__", "m"))
	require.True(t, set.Next())
	require.True(t, set.Next(), "the first look was given up")
	stale := budget.Held()
	require.NoError(t, q.Close())
	check("m", 2, true)
	require.False(t, holds(version()), "it was found again, but this is not it")
	q, err = db.Querier(0, until)
	require.NoError(t, err)
	set = q.Select(WithBudget(ctx, budget), false, nil, eq("__name__", "m"))
	require.True(t, set.Next())
	require.Equal(t, budget.Held(), stale, "what was given up does not count")
	require.NoError(t, q.Close())

	// None is remembered too.
	check("later", 0, false)
	check("later", 0, true)
	elsewhere("later", 1)
	check("later", 1, false)

	// This process' own changes.
	check("m", 2, false)
	holds = recall()
	before := version()
	write(t, db, lset("m", 3), sample{c.now.UnixMilli(), 1})
	require.Greater(t, version(), before)
	require.True(t, holds(version()), "a series that began later")
	write(t, db, lset("m", 4), sample{day.UnixMilli(), 1})
	require.False(t, holds(version()), "a series of the same hours")
	require.False(t, holds(before), "in no snapshot")
	check("m", 3, false)
	check("m", 3, true)
}

// TestOneBadSeriesFailsItsOwnRequestOnly: a label that PostgreSQL cannot keep does not fail the requests that are resolved with it.
func TestOneBadSeriesFailsItsOwnRequestOnly(t *testing.T) {
	pg := pgtest.New(t)
	c := &clock{day.Add(time.Hour)}
	db := open(t, testConfig(t, pg, c))
	// While the catalogue is held, a first round waits for it, and the requests that follow gather to the next.
	var release sync.Once
	db.resolver.lifecycle.Lock()
	let := func() { release.Do(db.resolver.lifecycle.Unlock) }
	defer let() // a test that fails must not keep the database from closing
	waiting := func(want int) func() bool {
		return func() bool {
			db.resolver.mu.Lock()
			defer db.resolver.mu.Unlock()
			return db.resolver.running && len(db.resolver.waiting) == want
		}
	}
	const n = 8
	errs := make([]error, n)
	var first error
	var group sync.WaitGroup
	group.Go(func() { first = tryWrite(db, "", lset("first", 1), sample{day.UnixMilli(), 1}) })
	require.Eventually(t, waiting(0), time.Minute, time.Millisecond)
	for i := range n {
		l := lset("m", i)
		if i == 3 {
			l = labels.FromStrings("__name__", "m", "i", "3\x00", "job", "test")
		}
		group.Go(func() { errs[i] = tryWrite(db, "", l, sample{day.UnixMilli(), 1}) })
	}
	require.Eventually(t, waiting(n), time.Minute, time.Millisecond)
	let()
	group.Wait()
	require.NoError(t, first)
	for i, err := range errs {
		if i == 3 {
			require.ErrorIs(t, err, catalogue.ErrUnstorable)
			var passing interface{ RetryAfter() time.Duration }
			require.False(t, errors.As(err, &passing), "it will never be stored")
			continue
		}
		require.NoError(t, err, i)
	}
	require.Len(t, read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m")), n-1)
}

// TestALateSampleDoesNotShortenASeriesLife: a series that ended, and comes back with an old sample only, still has its youngest ones.
func TestALateSampleDoesNotShortenASeriesLife(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(20 * time.Hour)}
	cfg := testConfig(t, pg, c)
	db := open(t, cfg)
	at := func(hour int) int64 { return day.Add(time.Duration(hour) * time.Hour).UnixMilli() }
	write(t, db, lset("m", 1), sample{at(20), 20})
	c.now = day.Add(40 * time.Hour)
	endSeries(t, db)
	young := func(stage string) {
		t.Helper()
		require.Equal(t, []sample{{at(20), 20}}, read(t, db, at(19), at(21), eq("__name__", "m"))[lset("m", 1).String()], stage)
	}
	young("ended")
	write(t, db, lset("m", 1), sample{at(10), 10})
	c.now = day.Add(41 * time.Hour)
	endSeries(t, db)
	require.Zero(t, db.head.Len())
	young("back and ended")
	write(t, db, lset("m", 1), sample{at(9), 9})
	require.NoError(t, db.Close())
	db = open(t, cfg)
	require.NoError(t, db.Flush(ctx))
	c.now = day.Add(60 * time.Hour)
	endSeries(t, db)
	require.Zero(t, db.head.Len())
	young("back, restarted and ended")
	require.Len(t, read(t, db, 0, at(30), eq("__name__", "m"))[lset("m", 1).String()], 3)
}

// TestASeriesOfTheCacheIsActive: one that had left memory, and is loaded with the rows of the cache window after a restart, is found in the
// future of what is written to it then.
func TestASeriesOfTheCacheIsActive(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(time.Hour)}
	cfg := testConfig(t, pg, c)
	cfg.CacheWindow = time.Hour
	db := open(t, cfg)
	write(t, db, lset("m", 1), sample{c.now.UnixMilli(), 1})
	c.now = day.Add(4 * time.Hour)
	endSeries(t, db)
	require.Zero(t, db.head.Len())
	require.NoError(t, db.Close())
	cfg.CacheWindow = 6 * time.Hour
	db = open(t, cfg)
	require.Equal(t, 1, db.head.Len())
	require.Zero(t, countRows(t, pg, "_promkeep.series WHERE ended IS NOT NULL"))
	write(t, db, lset("m", 1), sample{c.now.UnixMilli(), 2})
	require.NoError(t, db.Flush(ctx))
	c.now = day.Add(48 * time.Hour)
	endSeries(t, db)
	require.Zero(t, db.head.Len())
	require.Len(t, read(t, db, day.Add(4*time.Hour).UnixMilli(), day.Add(5*time.Hour).UnixMilli(), eq("__name__", "m")), 1)
}

// TestRememberedSearchesAreTrue: searches of the past are remembered, and every change that concerns them shows in the next.
func TestRememberedSearchesAreTrue(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		random := rand.New(rand.NewPCG(3, 4))
		c := &clock{day.Add(time.Hour)}
		db := open(t, testConfig(t, pg, c))
		lived := map[string]map[int64]float64{} // by labels
		steps := 120
		if testing.Short() {
			steps = 50
		}
		for step := range steps {
			l := lset(fmt.Sprintf("m%d", random.IntN(2)), random.IntN(12))
			at := c.now.UnixMilli()
			if random.IntN(3) == 0 {
				at -= random.Int64N(20 * 3600_000)
			}
			write(t, db, l, sample{at, float64(step)})
			if lived[l.String()] == nil {
				lived[l.String()] = map[int64]float64{}
			}
			lived[l.String()][at] = float64(step)
			switch random.IntN(5) {
			case 0:
				c.now = c.now.Add(time.Duration(random.IntN(180)) * time.Minute)
			case 1:
				require.NoError(t, db.Flush(ctx))
				require.NoError(t, db.Maintain(ctx))
			case 2:
				c.now = c.now.Add(5 * time.Hour)
				endSeries(t, db)
			}
			// The same few ranges again and again.
			for range 3 {
				from := day.Add(time.Duration(random.IntN(3)-1) * 12 * time.Hour).UnixMilli()
				to := min(from+int64(1+random.IntN(5))*12*3600_000, c.now.UnixMilli()) // from two days on labels are asked for in whole days
				for _, m := range []*labels.Matcher{eq("__name__", "m1"), eq("i", "3"), labels.MustNewMatcher(labels.MatchRegexp, "job", "te.*")} {
					want := map[string]bool{}
					for l, samples := range lived {
						for ts := range samples {
							if ts >= from && ts <= to && (m.Name == "job" || strings.Contains(l, fmt.Sprintf(`%s="%s"`, m.Name, m.Value))) {
								want[l] = true
							}
						}
					}
					got := read(t, db, from, to, m)
					for l := range want {
						require.Contains(t, got, l, "step %d, %s, %d to %d", step, m, from, to)
					}
					require.Len(t, got, len(want), "step %d, %s, %d to %d", step, m, from, to)
					values := labelValues(t, db, DefaultTenant, from, to, 0, "i", m)
					for l := range want {
						value := l[strings.Index(l, `i="`)+3:]
						require.Contains(t, values, value[:strings.IndexByte(value, '"')], "step %d, %s, %d to %d", step, m, from, to)
					}
				}
			}
		}
		hits, misses := db.catalogue.Remembered()
		require.Positive(t, hits)
		t.Logf("%d of %d searches were answered from memory", hits, hits+misses)
	})
}
