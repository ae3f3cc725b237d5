package storage

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/pgtest"
)

func labelValues(t testing.TB, db *DB, tenant string, mint, maxt int64, limit int, name string, ms ...*labels.Matcher) []string {
	t.Helper()
	q, err := db.Querier(mint, maxt)
	require.NoError(t, err)
	defer q.Close()
	out, _, err := q.LabelValues(WithTenant(context.Background(), tenant), name, &promstorage.LabelHints{Limit: limit}, ms...)
	require.NoError(t, err)
	return out
}

func labelNames(t testing.TB, db *DB, tenant string, mint, maxt int64, limit int, ms ...*labels.Matcher) []string {
	t.Helper()
	q, err := db.Querier(mint, maxt)
	require.NoError(t, err)
	defer q.Close()
	out, _, err := q.LabelNames(WithTenant(context.Background(), tenant), &promstorage.LabelHints{Limit: limit}, ms...)
	require.NoError(t, err)
	return out
}

// endSeries lets the series in memory end that have nothing in it.
func endSeries(t testing.TB, db *DB) {
	t.Helper()
	for range 3 {
		require.NoError(t, db.Flush(context.Background()))
	}
	require.NoError(t, db.Maintain(context.Background()))
}

// TestLabelsAreThoseOfTheSeriesThatMatch holds the label APIs against a walk over all label sets: with the series in memory,
// then with a part of them ended, for random matchers of all types.
func TestLabelsAreThoseOfTheSeriesThatMatch(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		random := rand.New(rand.NewPCG(1, 2))
		c := &clock{day.Add(time.Hour)}
		db := open(t, testConfig(t, pg, c))
		var all []labels.Labels
		add := func(tenant string, n int, t0 int64) {
			var batch []labels.Labels
			for i := range n {
				b := labels.NewBuilder(labels.FromStrings("__name__", fmt.Sprintf("m%d", random.IntN(4))))
				b.Set("i", fmt.Sprintf("%s%d", tenant, i))
				for _, name := range []string{"a", "b", "c"} {
					if v := random.IntN(5); v > 0 {
						b.Set(name, fmt.Sprintf("v%d", v))
					}
				}
				if i%50 == 0 {
					b.Set(fmt.Sprintf("only%d", i), tenant)
				}
				batch = append(batch, b.Labels())
			}
			for _, l := range batch {
				require.NoError(t, tryWrite(db, tenant, l, sample{t0, 1}))
			}
			if tenant == "one" {
				all = append(all, batch...)
			}
		}
		matcher := func() *labels.Matcher {
			name := []string{"a", "b", "c", "i", "__name__", "none", "only0"}[random.IntN(7)]
			values := []string{"", "v1", "v2|v3", ".*", ".+", "v1|", "v.", "one1.*", "m1|m2", "m1", "one"}
			return labels.MustNewMatcher(labels.MatchType(random.IntN(4)), name, values[random.IntN(len(values))])
		}
		check := func(stage string) {
			t.Helper()
			for range 150 {
				var ms []*labels.Matcher
				for range random.IntN(4) {
					ms = append(ms, matcher())
				}
				names, values := map[string]bool{}, map[string]bool{}
				name := []string{"a", "b", "i", "__name__", "none", "only0"}[random.IntN(6)]
				for _, l := range all {
					if slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) }) {
						continue
					}
					l.Range(func(l labels.Label) { names[l.Name] = true })
					if v := l.Get(name); v != "" {
						values[v] = true
					}
				}
				sorted := func(set map[string]bool) []string {
					out := []string{}
					for v := range set {
						out = append(out, v)
					}
					slices.Sort(out)
					return out
				}
				limit := random.IntN(3) * random.IntN(4)
				cut := func(list []string) []string {
					if limit > 0 && len(list) > limit {
						return list[:limit]
					}
					return list
				}
				require.Equal(t, cut(sorted(values)), append([]string{}, labelValues(t, db, "one", 0, c.now.UnixMilli(), limit, name, ms...)...),
					"%s: values of %s, %v", stage, name, ms)
				require.Equal(t, cut(sorted(names)), append([]string{}, labelNames(t, db, "one", 0, c.now.UnixMilli(), limit, ms...)...),
					"%s: names, %v", stage, ms)
			}
		}
		add("one", 1500, day.UnixMilli())
		add("two", 300, day.UnixMilli())
		check("in memory")
		c.now = day.Add(24 * time.Hour)
		endSeries(t, db)
		require.Zero(t, db.head.Len())
		check("ended")
		add("one", 100, c.now.UnixMilli())
		check("some in memory, some ended")
	})
}

// TestLabelsOfARange: a range without data has no labels, one of the past has those of the series that lived then, and none of
// another tenant; wherever the samples are.
func TestLabelsOfARange(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		c := &clock{day.Add(time.Hour)}
		cfg := testConfig(t, pg, c)
		db := open(t, cfg)
		at := func(d time.Duration) int64 { return day.Add(d).UnixMilli() }
		put := func(tenant, name string, d time.Duration) {
			require.NoError(t, tryWrite(db, tenant, labels.FromStrings("__name__", name, "who", name, name, "x"), sample{at(d), 1}))
		}
		put("", "early", 30*time.Minute)
		put("other", "secret", 30*time.Minute)
		check := func(stage string, from, to int64, want ...string) {
			t.Helper()
			m := labels.MustNewMatcher(labels.MatchRegexp, "who", ".+")
			for _, ms := range [][]*labels.Matcher{nil, {m}} {
				require.Equal(t, want, labelValues(t, db, DefaultTenant, from, to, 0, "who", ms...), stage)
				require.Equal(t, want, labelValues(t, db, DefaultTenant, from, to, 0, "__name__", ms...), stage)
				names := labelNames(t, db, DefaultTenant, from, to, 0, ms...)
				if want == nil {
					require.Empty(t, names, stage)
					continue
				}
				require.Equal(t, append(append([]string{"__name__"}, want...), "who"), names, stage)
			}
		}
		everywhere := func(stage string) {
			t.Helper()
			check(stage+": long ago", 1, 2)
			check(stage+": the day before", at(-24*time.Hour), at(-12*time.Hour))
			check(stage+": to come", at(100*time.Hour), at(101*time.Hour))
			require.Empty(t, labelValues(t, db, "nobody", 0, math.MaxInt64, 0, "who"))
		}
		everywhere("in memory")
		check("in memory", at(0), at(time.Hour), "early")

		c.now = day.Add(24 * time.Hour)
		endSeries(t, db)
		require.Zero(t, db.head.Len())
		everywhere("ended")
		check("ended", at(0), at(time.Hour), "early")
		check("ended, any time", math.MinInt64, math.MaxInt64, "early")
		check("ended, afterwards", at(2*time.Hour), at(3*time.Hour))

		put("", "late", 24*time.Hour-time.Minute)
		put("other", "later", 24*time.Hour-time.Minute)
		everywhere("both")
		check("both, past", at(0), at(time.Hour), "early")
		check("both, now", at(23*time.Hour), at(24*time.Hour), "late")
		check("both, any time", math.MinInt64, math.MaxInt64, "early", "late")
		// A late sample of a series that started afterwards, not flushed and flushed.
		put("", "late", 10*time.Hour)
		check("a late sample", at(10*time.Hour), at(10*time.Hour+1), "late")
		require.NoError(t, db.Flush(context.Background()))
		check("a late sample, flushed", at(10*time.Hour), at(10*time.Hour+1), "late")
		require.NoError(t, db.Close())
		db = open(t, cfg)
		everywhere("restarted")
		check("restarted, past", at(0), at(time.Hour), "early")
		check("restarted, now", at(23*time.Hour), at(24*time.Hour), "late")
	})
}

// TestASeriesThatEndedWhilePromkeepWasDownKeepsItsPast: what comes from the catalogue and gets no sample any more ends after
// its samples, not before.
func TestASeriesThatEndedWhilePromkeepWasDownKeepsItsPast(t *testing.T) {
	pg := pgtest.New(t)
	c := &clock{day.Add(time.Hour)}
	cfg := testConfig(t, pg, c)
	db := open(t, cfg)
	write(t, db, lset("m", 1), sample{day.UnixMilli(), 1})
	require.NoError(t, db.Flush(context.Background()))
	require.NoError(t, db.Close())
	c.now = day.Add(24 * time.Hour)
	db = open(t, cfg)
	endSeries(t, db)
	require.Zero(t, db.head.Len())
	require.Len(t, read(t, db, day.UnixMilli(), c.now.UnixMilli(), eq("__name__", "m")), 1)
	require.Equal(t, []string{"1"}, labelValues(t, db, DefaultTenant, day.UnixMilli(), c.now.UnixMilli(), 0, "i"))
}

// TestSeriesEndWhenTheCatalogueCanBeTold: a series that could not be marked as ended is marked later, unless it came back, and
// its labels are found then.
func TestSeriesEndWhenTheCatalogueCanBeTold(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(time.Hour)}
	db := open(t, testConfig(t, pg, c))
	write(t, db, lset("m", 1), sample{day.UnixMilli(), 1})
	write(t, db, lset("m", 2), sample{day.UnixMilli(), 1})
	pool := pg.Pool(t)
	_, err := pool.Exec(ctx, "ALTER TABLE _promkeep.series ADD CONSTRAINT none CHECK (ended IS NULL)")
	require.NoError(t, err)
	c.now = day.Add(24 * time.Hour)
	for range 3 {
		require.NoError(t, db.Flush(ctx))
	}
	require.Error(t, db.Maintain(ctx))
	require.Zero(t, db.head.Len())
	_, err = pool.Exec(ctx, "ALTER TABLE _promkeep.series DROP CONSTRAINT none")
	require.NoError(t, err)
	write(t, db, lset("m", 2), sample{c.now.UnixMilli(), 1})
	require.NoError(t, db.Maintain(ctx))
	require.Equal(t, 1, countRows(t, pg, "_promkeep.series WHERE ended IS NOT NULL"))
	require.Equal(t, []string{"1", "2"}, labelValues(t, db, DefaultTenant, day.UnixMilli(), c.now.UnixMilli(), 0, "i"))
}

// TestLabelsOfDaysAreRememberedWhileTheRangeMovesOn: a dashboard's range of days asks the catalogue once a day, and yet what ends, comes back, is made by another
// process, or is gone, shows at once.
func TestLabelsOfDaysAreRememberedWhileTheRangeMovesOn(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(time.Hour)}
	db := open(t, testConfig(t, pg, c))
	put := func(i int, at time.Time) { write(t, db, lset("m", i), sample{at.UnixMilli(), 1}) }
	put(1, c.now)
	c.now = day.Add(30 * time.Hour)
	put(2, c.now)
	c.now = day.Add(78 * time.Hour)
	endSeries(t, db)
	require.Zero(t, db.head.Len())
	ask := func(span time.Duration) []string {
		t.Helper()
		from, to := c.now.Add(-span).UnixMilli(), c.now.UnixMilli()
		names := labelNames(t, db, DefaultTenant, from, to, 0)
		require.Equal(t, []string{"__name__", "i", "job"}, names)
		return labelValues(t, db, DefaultTenant, from, to, 0, "i")
	}
	searches := func(f func()) uint64 {
		_, before := db.catalogue.Remembered()
		f()
		_, after := db.catalogue.Remembered()
		return after - before
	}
	const days = 77 * time.Hour
	require.EqualValues(t, 2, searches(func() { require.Equal(t, []string{"1", "2"}, ask(days)) }), "one of names, one of values")
	require.Zero(t, searches(func() {
		for range 17 {
			c.now = c.now.Add(time.Hour)
			require.Contains(t, ask(days), "2")
		}
	}))
	require.Equal(t, day.Add(95*time.Hour), c.now)
	// Ranges below two days are exact to the hour.
	c.now = day.Add(30 * time.Hour)
	require.Equal(t, []string{"1", "2"}, ask(29*time.Hour))
	require.Equal(t, []string{"2"}, ask(28*time.Hour))
	c.now = day.Add(95 * time.Hour)

	// What comes, ends, and comes back.
	put(3, c.now)
	require.Equal(t, []string{"1", "2", "3"}, ask(days))
	c.now = day.Add(103 * time.Hour)
	endSeries(t, db)
	require.Zero(t, db.head.Len())
	require.Contains(t, ask(days), "3")
	put(2, c.now)
	require.Equal(t, []string{"2", "3"}, ask(days), "the first ended three days before")
	// Another process.
	pool := pg.Pool(t)
	other := catalogue.New(pool, pool)
	s := &catalogue.Series{Tenant: 1, Labels: lset("m", 4), Started: catalogue.Hour(c.now.UnixMilli()) - 30}
	require.NoError(t, other.Create(ctx, []*catalogue.Series{s}))
	require.NoError(t, other.End(ctx, db.fence, []uint64{s.ID}, []int64{c.now.UnixMilli()}))
	require.Equal(t, []string{"2", "3", "4"}, ask(days))
	done, err := other.Retire(ctx, db.fence, []uint64{s.ID}, 1<<30)
	require.NoError(t, err)
	require.Equal(t, 1, done.Series)
	require.Equal(t, []string{"2", "3"}, ask(days))
}
