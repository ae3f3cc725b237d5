package storage

import (
	"cmp"
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// settle merges all that is due into days.
func settle(t *testing.T, db *DB, pg *pgtest.DB) {
	t.Helper()
	for range 2 {
		makePartsOld(t, pg)
		require.NoError(t, db.Maintain(context.Background()))
	}
}

// noAutovacuum keeps autovacuum from cutting off pages of the tables that there are, and from giving them maps of their free space.
func noAutovacuum(t *testing.T, pg *pgtest.DB) {
	t.Helper()
	_, err := pg.SuperPool(t).Exec(context.Background(), `DO $$ DECLARE of text; BEGIN
		FOR of IN SELECT oid::regclass FROM pg_class WHERE relkind IN ('r', 'm') AND relnamespace::regnamespace::text IN ('_promkeep', 'promkeep', '_timescaledb_internal') LOOP
			EXECUTE 'ALTER TABLE ' || of || ' SET (autovacuum_enabled = false, toast.autovacuum_enabled = false)';
		END LOOP;
	END $$`)
	require.NoError(t, err)
}

// TestRetentionBySize fills six days and lowers the limit step by step: the oldest days go, as many as need be and no more.
func TestRetentionBySize(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		const days, series, samples = 6, 40, 400
		c := &clock{day}
		cfg := testConfig(t, pg, c)
		db := open(t, cfg)
		random := rand.New(rand.NewPCG(1, 2))
		for d := range days {
			begin := day.AddDate(0, 0, d)
			c.now = begin.Add(20 * time.Hour)
			for i := range series {
				var all []sample
				for k := range samples {
					all = append(all, sample{begin.Add(time.Duration(k) * time.Minute).UnixMilli(), random.NormFloat64()})
				}
				write(t, db, lset("m", i), all...)
			}
			require.NoError(t, db.Flush(ctx))
		}
		c.now = day.AddDate(0, 0, days).Add(4 * time.Hour)
		settle(t, db, pg)
		require.Zero(t, countRows(t, pg, "_promkeep.recent"))
		noAutovacuum(t, pg)
		require.NoError(t, db.Maintain(ctx))
		full, err := db.chunks.Size(ctx)
		require.NoError(t, err)
		require.EqualValues(t, full, db.size.Load())
		require.Greater(t, full, int64(days*series*samples*8), "random floats do not compress")
		kept := func() (out []int) {
			for d := range days {
				from := day.AddDate(0, 0, d)
				if len(read(t, db, from.UnixMilli(), from.Add(24*time.Hour).UnixMilli()-1, eq("__name__", "m"))) > 0 {
					out = append(out, d)
				}
			}
			return out
		}
		require.Equal(t, []int{0, 1, 2, 3, 4, 5}, kept())

		require.NoError(t, db.Close())
		cfg.RetentionSize = full
		db = open(t, cfg)
		require.NoError(t, db.Maintain(ctx))
		require.Equal(t, []int{0, 1, 2, 3, 4, 5}, kept(), "what fits exactly stays")

		full, err = db.chunks.Size(ctx)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		cfg.RetentionSize = full - 1
		db = open(t, cfg)
		require.NoError(t, db.Maintain(ctx))
		require.Equal(t, []int{1, 2, 3, 4, 5}, kept())
		require.EqualValues(t, 1, testutil.ToFloat64(db.metrics.daysDroppedForSize))
		perDay := full - db.size.Load()
		require.Greater(t, perDay, int64(series*samples*8))

		require.NoError(t, db.Close())
		cfg.RetentionSize = full - 7*perDay/2
		db = open(t, cfg)
		require.NoError(t, db.Maintain(ctx))
		require.Equal(t, []int{4, 5}, kept())
		require.LessOrEqual(t, db.size.Load(), cfg.RetentionSize)

		// The catalogue alone takes more than this: all past days go, and what is being gathered stays.
		write(t, db, lset("m", 0), sample{c.now.UnixMilli(), 1})
		require.NoError(t, db.Flush(ctx))
		require.NoError(t, db.Close())
		cfg.RetentionSize = 1
		db = open(t, cfg)
		require.NoError(t, db.Maintain(ctx))
		require.Empty(t, kept())
		require.Equal(t, map[string][]sample{lset("m", 0).String(): {{c.now.UnixMilli(), 1}}}, read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m")))
		require.True(t, db.oversize)

		// A late sample for a day that went is taken, and its day goes again.
		write(t, db, lset("m", 1), sample{day.UnixMilli(), 2})
		require.Equal(t, []int{0}, kept())
		require.NoError(t, db.Flush(ctx))
		c.now = c.now.Add(2 * time.Hour)
		settle(t, db, pg)
		require.Empty(t, kept())
	}, pgtest.AllEditions)
}

// TestRetentionRules keeps series for different times: what is past its own is in no answer from one moment to the next, in SQL too, and
// leaves the rows of days that others still need.
func TestRetentionRules(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		const days = 40
		c := &clock{day.AddDate(0, 0, days).Add(-time.Hour)}
		cfg := testConfig(t, pg, c)
		cfg.Retention = 20 * 24 * time.Hour
		match := func(name, expr string) []*labels.Matcher {
			return []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, name, expr)}
		}
		cfg.RetentionRules = []RetentionRule{
			{Matchers: match("__name__", "debug_.*"), Keep: 3 * 24 * time.Hour},
			{Matchers: match("i", "[12]"), Keep: 35 * 24 * time.Hour},
			{Tenant: "a", Keep: 36 * time.Hour},
		}
		db := open(t, cfg)
		kept := map[string]map[string]time.Duration{
			"": {
				lset("debug_x", 1).String(): 3 * 24 * time.Hour,
				lset("m", 1).String():       35 * 24 * time.Hour,
				lset("m", 2).String():       35 * 24 * time.Hour,
				lset("m", 3).String():       20 * 24 * time.Hour,
			},
			"a": {
				lset("debug_x", 1).String(): 3 * 24 * time.Hour,
				lset("m", 1).String():       35 * 24 * time.Hour,
				lset("m", 3).String():       36 * time.Hour,
			},
		}
		times := func() (out []time.Time) {
			for d := range days {
				for _, h := range []int{1, 9, 17} {
					if at := day.AddDate(0, 0, d).Add(time.Duration(h) * time.Hour); !at.After(c.now) {
						out = append(out, at)
					}
				}
			}
			return out
		}
		written := times()
		for tenant, series := range kept {
			for name := range series {
				l, err := parseLabels(name)
				require.NoError(t, err)
				var all []sample
				for i, at := range written {
					all = append(all, sample{at.UnixMilli(), float64(i)})
				}
				require.NoError(t, tryWrite(db, tenant, l, all...))
			}
		}
		check := func(stage string, inSQL bool) {
			t.Helper()
			for tenant, series := range kept {
				for _, name := range []string{"debug_x", "m"} {
					want := map[string][]sample{}
					for l, keep := range series {
						if parsed, err := parseLabels(l); err != nil || parsed.Get("__name__") != name {
							continue
						}
						for i, at := range written {
							if c.now.Sub(at) <= keep {
								want[l] = append(want[l], sample{at.UnixMilli(), float64(i)})
							}
						}
					}
					got := readAs(t, WithTenant(ctx, tenant), db, 0, math.MaxInt64, eq("__name__", name))
					maps.DeleteFunc(got, func(_ string, s []sample) bool { return len(s) == 0 })
					requireSame(t, want, got, stage+": "+tenant+" "+name)
					if inSQL {
						requireSame(t, want, inSQLAs(t, pg, cmp.Or(tenant, DefaultTenant), name), stage+": "+tenant+" "+name+" in SQL")
					}
				}
			}
		}
		check("head", false)
		require.NoError(t, db.Flush(ctx))
		require.NoError(t, db.Maintain(ctx)) // tells SQL what time it is
		check("flushed", true)
		settle(t, db, pg)
		check("merged", true)
		c.now = c.now.Add(4 * time.Hour)
		settle(t, db, pg)
		check("the last day merged", true)

		// Of days that are past a rule's time as a whole, and the three hours in which late samples are gathered, no row holds any more of it.
		stored := func() (n int) {
			require.NoError(t, pg.Pool(t).QueryRow(ctx, "SELECT coalesce(sum(n), 0) FROM _promkeep.chunk").Scan(&n))
			return n
		}
		should := func() (n int) {
			for _, series := range kept {
				for _, keep := range series {
					for _, at := range written {
						if end := at.Truncate(24 * time.Hour).Add(24 * time.Hour); c.now.Sub(end) < keep {
							n++
						}
					}
				}
			}
			return n
		}
		require.Equal(t, should(), stored())
		require.Zero(t, db.retiring.Load())
		before := stored()
		c.now = c.now.AddDate(0, 0, 1)
		write(t, db, lset("alive", 1), sample{c.now.UnixMilli(), 1}) // no clock is believed that is far ahead of all samples
		check("a day later", false)
		require.NoError(t, db.Maintain(ctx))
		check("a day later", true)
		require.Equal(t, should(), stored())
		require.Less(t, stored(), before)

		// A late sample of a day that was rewritten, past its time and not: the one is not answered, and leaves the day again.
		late := day.AddDate(0, 0, days-10).Add(5 * time.Hour)
		for _, l := range []labels.Labels{lset("debug_x", 1), lset("n", 3)} {
			require.NoError(t, tryWrite(db, "", l, sample{late.UnixMilli(), -1}))
		}
		require.Empty(t, read(t, db, late.UnixMilli(), late.UnixMilli(), eq("__name__", "debug_x")))
		require.Len(t, read(t, db, late.UnixMilli(), late.UnixMilli(), eq("__name__", "n")), 1)
		require.NoError(t, db.Flush(ctx))
		c.now = c.now.Add(2 * time.Hour)
		settle(t, db, pg)
		require.Equal(t, should()+1, stored())
		require.Len(t, read(t, db, late.UnixMilli(), late.UnixMilli(), eq("__name__", "n")), 1)

		// Other rules count from the start on.
		require.NoError(t, db.Close())
		cfg.RetentionRules[1].Keep = 24 * time.Hour
		db = open(t, cfg)
		for _, series := range kept {
			for l, keep := range series {
				if keep == 35*24*time.Hour {
					series[l] = 24 * time.Hour
				}
			}
		}
		check("other rules", true)
		require.NoError(t, db.Maintain(ctx))
		check("other rules, rewritten", true)
	})
}

func inSQLAs(t *testing.T, pg *pgtest.DB, tenant, name string) map[string][]sample {
	t.Helper()
	rows, err := pg.Pool(t).Query(context.Background(), `SELECT labels ->> 'i', labels ->> 'job', (extract(epoch FROM time) * 1000)::int8, value
		FROM promkeep.samples($1, tenant => $2) ORDER BY series_id, time`, name, tenant)
	require.NoError(t, err)
	out := map[string][]sample{}
	for rows.Next() {
		var i, job string
		var s sample
		require.NoError(t, rows.Scan(&i, &job, &s.t, &s.v))
		l := labels.FromStrings("__name__", name, "i", i, "job", job).String()
		out[l] = append(out[l], s)
	}
	require.NoError(t, rows.Err())
	return out
}
