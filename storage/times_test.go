package storage

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/chunks"
	"github.com/promkeep/promkeep/storage/codec"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestTimesOfATargetAreKeptOnce: irregular timestamps that series of several metrics share are kept once for a day in the long-term store. Queries, SQL,
// late samples, deletion, a new start that reads them, and the retention go on as ever; where they are lost, that is an error.
func TestTimesOfATargetAreKeptOnce(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		const targets, perTarget = 4, 5
		names := []string{"a", "b", "c"}
		c := &clock{day.Add(23 * time.Hour)}
		cfg := testConfig(t, pg, c)
		cfg.CacheWindow = time.Minute
		db := open(t, cfg)
		want := map[string]map[string][]sample{}
		add := func(from, to int) {
			for _, name := range names {
				for i := range targets * perTarget {
					r := rand.New(rand.NewPCG(uint64(i/perTarget), uint64(from)))
					l := lset(name, i)
					var all []sample
					for k := from; k < to; k++ {
						at := day.Add(time.Duration(k)*time.Minute).UnixMilli() + r.Int64N(3000)
						all = append(all, sample{at, float64((i*k*7919)%1000003) / 100})
					}
					write(t, db, l, all...)
					if want[name] == nil {
						want[name] = map[string][]sample{}
					}
					want[name][l.String()] = append(want[name][l.String()], all...)
				}
			}
			require.NoError(t, db.Flush(ctx))
		}
		check := func(stage string) {
			t.Helper()
			for _, name := range names {
				require.Equal(t, want[name], read(t, db, day.UnixMilli(), c.now.UnixMilli(), eq("__name__", name)), stage)
				require.Equal(t, want[name], inSQLAs(t, pg, DefaultTenant, name), "%s, in SQL", stage)
				from, to := day.Add(7*time.Hour+30*time.Second).UnixMilli(), day.Add(8*time.Hour).UnixMilli()
				for l, some := range read(t, db, from, to, eq("__name__", name), eq("i", "7")) {
					var part []sample
					for _, s := range want[name][l] {
						if s.t >= from && s.t <= to {
							part = append(part, s)
						}
					}
					require.Equal(t, part, some, stage)
				}
			}
		}
		restart := func() {
			t.Helper()
			require.NoError(t, db.Close())
			db = open(t, cfg)
		}
		// bundles are those of the long-term store, by their version.
		bundles := func() map[int]int {
			t.Helper()
			rows, err := pg.Pool(t).Query(ctx, "SELECT get_byte(data, 0), count(*) FROM _promkeep.chunk WHERE encoding = 16 GROUP BY 1")
			require.NoError(t, err)
			out := map[int]int{}
			for rows.Next() {
				var version, n int
				require.NoError(t, rows.Scan(&version, &n))
				out[version] = n
			}
			require.NoError(t, rows.Err())
			return out
		}

		add(0, 1000)
		c.now = day.Add(30 * time.Hour)
		settle(t, db, pg)
		require.Zero(t, countPacked(t, pg, "_promkeep.recent"))
		require.Equal(t, targets, countRows(t, pg, "_promkeep.times"))
		require.Equal(t, map[int]int{2: len(names)}, bundles())
		check("merged")
		restart()
		check("merged, started again")

		add(1000, 1200) // late, so the day has a second row of each series
		c.now = c.now.Add(6 * time.Hour)
		settle(t, db, pg)
		require.Zero(t, countPacked(t, pg, "_promkeep.recent"))
		require.Equal(t, 2*targets, countRows(t, pg, "_promkeep.times"))
		check("late")
		restart()
		check("late, started again")

		// Some series lose samples, so they get timestamps of their own; rows that stay refer to those that were there.
		from, to := day.Add(3*time.Hour).UnixMilli(), day.Add(4*time.Hour).UnixMilli()
		require.NoError(t, db.Delete(ctx, from, to, []*labels.Matcher{eq("__name__", "a"), labels.MustNewMatcher(labels.MatchRegexp, "i", "[0-7]")}))
		for i := range 8 {
			l := lset("a", i).String()
			var left []sample
			for _, s := range want["a"][l] {
				if s.t < from || s.t > to {
					left = append(left, s)
				}
			}
			want["a"][l] = left
		}
		check("deleted")
		settle(t, db, pg)
		var pending int
		require.NoError(t, pg.Pool(t).QueryRow(ctx, "SELECT count(*) FROM _promkeep.tombstone").Scan(&pending))
		require.Zero(t, pending)
		require.Equal(t, 2*targets+2, countRows(t, pg, "_promkeep.times"), "two targets have rows with a hole")
		check("erased")
		restart()
		check("erased, started again")

		// A start that reads the last days into memory.
		require.NoError(t, db.Close())
		warm := cfg
		warm.CacheWindow = 72 * time.Hour
		db = open(t, warm)
		check("warm")
		require.NoError(t, db.Close())

		// Lost, as only somebody else can do it.
		exec := func(sql string) {
			t.Helper()
			_, err := pg.Pool(t).Exec(ctx, sql)
			require.NoError(t, err)
		}
		exec("CREATE TABLE public.lost AS SELECT * FROM _promkeep.times")
		exec("DELETE FROM _promkeep.times")
		db = open(t, cfg)
		q, err := db.Querier(day.UnixMilli(), c.now.UnixMilli())
		require.NoError(t, err)
		set := q.Select(ctx, true, nil, eq("__name__", "b"))
		var failed error
		for set.Next() && failed == nil {
			it := set.At().Iterator(nil)
			for it.Next() != 0 {
				t.Fatal("a sample without its timestamp")
			}
			failed = it.Err()
		}
		var bad *chunks.RowError
		require.ErrorAs(t, failed, &bad)
		require.ErrorIs(t, failed, codec.ErrCorrupt)
		require.NoError(t, q.Close())
		_, err = pg.Pool(t).Exec(ctx, "SELECT count(*) FROM promkeep.samples('b')")
		require.ErrorContains(t, err, "are not in the table of them")
		exec("INSERT INTO _promkeep.times SELECT * FROM public.lost")
		check("brought back")
		require.NoError(t, db.Close())

		// Timestamps go after their day.
		cfg.Retention = 48 * time.Hour
		c.now = day.Add(10 * 24 * time.Hour)
		db = open(t, cfg)
		write(t, db, lset("young", 1), sample{c.now.UnixMilli(), 1})
		require.NoError(t, db.Maintain(ctx))
		require.Zero(t, countRows(t, pg, "_promkeep.chunk"))
		require.NoError(t, db.Maintain(ctx))
		require.Zero(t, countRows(t, pg, "_promkeep.times"))
		require.Empty(t, read(t, db, math.MinInt64/2, day.Add(48*time.Hour).UnixMilli(), eq("__name__", "b")))
	})
}
