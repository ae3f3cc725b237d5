package storage

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestSeriesInMemoryAreNotAskedFor: a search of the catalogue leaves out the series that are in memory, and what it remembers serves when they have left it.
func TestSeriesInMemoryAreNotAskedFor(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := t.Context()
		c := &clock{day.Add(20 * time.Hour)}
		cfg := testConfig(t, pg, c)
		db := open(t, cfg)
		at := c.now.UnixMilli()
		lset := func(name, kind string) labels.Labels {
			return labels.FromStrings("__name__", name, "kind", kind, "job", "j")
		}
		leave := func(hours int) { // what is in memory
			c.now = c.now.Add(time.Duration(hours) * time.Hour)
			for range 3 {
				require.NoError(t, db.Flush(ctx))
			}
			require.NoError(t, db.Maintain(ctx))
		}
		for _, name := range []string{"a", "b", "c"} {
			write(t, db, lset(name, "ended"), sample{at, 1})
			write(t, db, lset(name, "both"), sample{at, 2})
		}
		leave(40)
		require.Zero(t, db.head.Len())
		for _, name := range []string{"a", "b", "c"} {
			write(t, db, lset(name, "both"), sample{c.now.UnixMilli(), 3})
			write(t, db, lset(name, "young"), sample{c.now.UnixMilli(), 4})
		}
		require.Equal(t, 6, db.head.Len())
		selectors := map[int][]*labels.Matcher{
			2: {eq("__name__", "a")},
			4: {labels.MustNewMatcher(labels.MatchRegexp, "__name__", "a|b")},
			1: {eq("__name__", "a"), eq("kind", "both")},
			3: {eq("kind", "both")},
			6: {eq("job", "j")},
		}
		check := func(when string) {
			t.Helper()
			for n, ms := range selectors {
				require.Len(t, read(t, db, at-1, at+1, ms...), n, "%s: %v", when, ms)
			}
		}
		check("not known yet")
		misses := func() uint64 { _, n := db.catalogue.Remembered(); return n }
		asked := misses()
		check("remembered")
		require.Equal(t, asked, misses())
		leave(80)
		require.Zero(t, db.head.Len())
		check("remembered from when they were in memory")
		require.Equal(t, asked, misses())

		// The database returns none of those that it is told of.
		for n, ms := range selectors {
			all := map[uint64]int{}
			add := func(s catalogue.Series) error { all[s.ID]++; return nil }
			hour := time.Hour.Milliseconds()
			require.NoError(t, db.catalogue.Select(ctx, 1, at-3*hour, at, nil, add, ms...))
			require.Len(t, all, n)
			var told []catalogue.Series
			for id := range all {
				if len(told) < (n+1)/2 {
					told = append(told, catalogue.Series{ID: id, Tenant: 1, Labels: labels.FromStrings("of", "the caller")})
				}
			}
			own := 0
			require.NoError(t, db.catalogue.Select(ctx, 1, at-2*hour, at, func() []catalogue.Series { return told }, func(s catalogue.Series) error {
				if s.Labels.Get("of") != "" {
					own++
				}
				return add(s)
			}, ms...))
			require.Equal(t, len(told), own)
			for id, times := range all {
				require.Equal(t, 2, times, "%d of %v", id, ms)
			}
		}
	})
}
