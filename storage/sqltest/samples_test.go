package sqltest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/codec/codectest"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// clean brings what the querier says into the shape that SQL has: no stale markers, and NaN as the test compares it.
func clean(m map[string][]sample) map[string][]sample {
	out := map[string][]sample{}
	for l, samples := range m {
		for _, s := range samples {
			if !value.IsStaleNaN(s.v) {
				out[l] = append(out[l], s)
			}
		}
	}
	return out
}

func requireSamples(t testing.TB, what string, want, got map[string][]sample) {
	t.Helper()
	require.Len(t, got, len(want), what)
	for l, samples := range want {
		require.Len(t, got[l], len(samples), "%s: %s", what, l)
		for i, w := range samples {
			g := got[l][i]
			same := g.t == w.t && (math.Float64bits(g.v) == math.Float64bits(w.v) || math.IsNaN(g.v) && math.IsNaN(w.v))
			require.True(t, same, "%s: %s: sample %d is %v, want %v", what, l, i, g, w)
		}
	}
}

// TestSamplesAreThoseOfTheQuerier writes in order, late, twice and with another value, at each stage of a sample's way, and compares
// SQL with the querier over several ranges of time. The querier is tested elsewhere.
func TestSamplesAreThoseOfTheQuerier(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		s := openStore(t, pg)
		r := rand.New(rand.NewPCG(1, 9))
		pool := pg.Pool(t)
		check := func(stage string) {
			t.Helper()
			for _, x := range [][2]time.Duration{{-48 * time.Hour, 100 * time.Hour}, {0, 24 * time.Hour}, {9*time.Hour + 7*time.Minute, 9*time.Hour + 8*time.Minute},
				{-1 * time.Hour, 90 * time.Minute}, {24 * time.Hour, 25 * time.Hour}, {5 * time.Hour, 4 * time.Hour}} {
				from, to := day.Add(x[0]), day.Add(x[1])
				for _, tenant := range []string{storage.DefaultTenant, "other"} {
					want := clean(s.query(t, tenant, from.UnixMilli(), to.UnixMilli(), eq("__name__", "m")))
					got := sqlSamples(t, pool, "'m', '{}', $1, $2, $3", from, to, tenant)
					requireSamples(t, fmt.Sprintf("%s, %s, %v", stage, tenant, x), want, got)
				}
			}
		}
		// some writes samples of 20 series somewhere in two hours before the store's time.
		some := func(tenant string, n int) {
			for i := range 20 {
				s.write(t, tenant, lset("m", i), func(b *storage.Batch) {
					for range n {
						at := s.now.Add(-time.Duration(r.IntN(480)) * 15 * time.Second)
						v := float64(r.IntN(1000))
						if r.IntN(20) == 0 {
							v = oddValues[r.IntN(len(oddValues))]
						}
						b.Float(at.UnixMilli(), 0, v)
					}
				})
			}
		}
		s.now = day.Add(-time.Hour)
		some("", 100)
		s.write(t, "", labels.FromStrings("__name__", "mm", "i", "1"), func(b *storage.Batch) { b.Float(day.UnixMilli(), 0, 1) })
		s.flush(t)
		s.now = day.Add(10 * time.Hour)
		some("", 200)
		some("other", 20)
		s.flush(t)
		check("flushed")
		some("", 30)
		s.flush(t)
		check("flushed twice")
		s.now = day.Add(13 * time.Hour)
		require.NoError(t, s.Maintain(t.Context()))
		some("", 30)
		s.flush(t)
		check("merged to windows, and late samples")
		s.now = day.Add(30 * time.Hour)
		s.gather(t)
		check("merged to days")
		s.now = day.Add(12 * time.Hour)
		some("", 30)
		some("other", 200)
		s.now = day.Add(31 * time.Hour)
		some("", 50)
		s.flush(t)
		check("late samples for a merged day")
		s.gather(t)
		s.now = day.Add(60 * time.Hour)
		s.gather(t)
		check("late samples for a merged day, merged")
	})
}

// TestStaleMarkersAndHistograms: stale markers are left out, or NULL on demand; histograms are left out.
func TestStaleMarkersAndHistograms(t *testing.T) {
	s := openStore(t, pgtest.New(t))
	at := func(i int) int64 { return day.Add(time.Duration(i) * time.Minute).UnixMilli() }
	stale := math.Float64frombits(value.StaleNaN)
	s.write(t, "", lset("m", 1), func(b *storage.Batch) {
		b.Float(at(1), 0, 1)
		b.Float(at(2), 0, stale)
		b.Float(at(3), 0, math.NaN())
		require.NoError(t, b.Histogram(at(4), 0, &histogram.Histogram{Count: 2, Sum: 3, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{2}}))
		b.Float(at(5), 0, math.Inf(-1))
	})
	s.flush(t)
	pool := s.pg.Pool(t)
	var got string
	list := `SELECT string_agg(extract(minute FROM time AT TIME ZONE 'UTC') || ':' || coalesce(value::text, 'null') || ':' || promkeep.is_stale(value), ' ' ORDER BY time) FROM promkeep.samples`
	require.NoError(t, pool.QueryRow(t.Context(), list+"('m')").Scan(&got))
	require.Equal(t, "1:1:false 3:NaN:false 5:-Infinity:false", got)
	require.NoError(t, pool.QueryRow(t.Context(), list+"('m', stale => true)").Scan(&got))
	require.Equal(t, "1:1:false 2:null:true 3:NaN:false 5:-Infinity:false", got)
	var marker bool
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT promkeep.is_stale($1)", stale).Scan(&marker))
	require.True(t, marker, "the marker itself, as a client may send it")
}

// TestMatchersMeanWhatTheyMeanInPrometheus compares matchers with Prometheus' own.
func TestMatchersMeanWhatTheyMeanInPrometheus(t *testing.T) {
	s := openStore(t, pgtest.New(t))
	values := []string{"a", "b", "ab", "A", "web-1", "web-2", "x.y", "line\nbreak", "=~a", "ä", "!=", "5"}
	for i, v := range values {
		s.write(t, "", labels.FromStrings("__name__", "m", "l", v, "even", fmt.Sprint(i%2 == 0)), func(b *storage.Batch) { b.Float(day.UnixMilli(), 0, 1) })
		s.write(t, "", labels.FromStrings("__name__", "n", "k", v), func(b *storage.Batch) { b.Float(day.UnixMilli(), 0, 1) })
	}
	s.write(t, "", labels.FromStrings("__name__", "m"), func(b *storage.Batch) { b.Float(day.UnixMilli(), 0, 1) })
	s.flush(t)
	pool := s.pg.Pool(t)
	check := func(matchers any, ms ...*labels.Matcher) {
		t.Helper()
		for _, name := range []string{"m", "n"} {
			want := s.query(t, "", 0, math.MaxInt64, append(ms, eq("__name__", name))...)
			requireSamples(t, fmt.Sprint(matchers, ms), want, sqlSamples(t, pool, "$1, $2", name, matchers))
		}
	}
	operators := map[labels.MatchType]string{labels.MatchEqual: "=", labels.MatchNotEqual: "!=", labels.MatchRegexp: "=~", labels.MatchNotRegexp: "!~"}
	operands := append([]string{"", ".*", ".+", "a|b", "web-.*", "(?i)ab?", "(?s)line.break", "line.break", "[^a]", "x.y", `x\.y`, "eb", "nothing", `\d`, "a?", "|b"}, values...)
	for _, label := range []string{"l", "k", "none"} {
		for typ, operator := range operators {
			for _, operand := range operands {
				m, err := labels.NewMatcher(typ, label, operand)
				require.NoError(t, err)
				check(map[string]string{label: operator + operand}, m)
				check(map[string]any{label: []string{operator + operand, "!=web-1"}, "even": true}, m,
					labels.MustNewMatcher(labels.MatchNotEqual, label, "web-1"), eq("even", "true"))
			}
		}
	}
	check(map[string]any{"l": "a"}, eq("l", "a"))
	check(map[string]any{"l": 5}, eq("l", "5"))
	check(map[string]any{}, eq("none", ""))

	got := sqlSamples(t, pool, `NULL, '{"__name__": "=~m|other", "l": "a"}'`)
	require.Len(t, got, 1)
	require.Contains(t, got, labels.FromStrings("__name__", "m", "l", "a", "even", "true").String(), "without a metric, labels have the name")

	for _, wrong := range []string{`[]`, `"a"`, `{"l": {}}`, `{"l": null}`, `{"l": [["a"]]}`} {
		_, err := pool.Exec(t.Context(), "SELECT * FROM promkeep.samples('m', $1)", wrong)
		require.ErrorContains(t, err, "match", wrong)
	}
	_, err := pool.Exec(t.Context(), `SELECT * FROM promkeep.samples('m', '{"l": "=~("}')`)
	require.ErrorContains(t, err, "regular expression")
}

// TestSamplesWhileRowsMove counts samples in SQL again and again while flushes, merges and drops move them: none is missing,
// none is doubled.
func TestSamplesWhileRowsMove(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		s := openStore(t, pg)
		const series, perSeries = 30, 60
		for i := range series {
			s.write(t, "", lset("m", i), func(b *storage.Batch) {
				for k := range perSeries {
					b.Float(day.Add(time.Duration(k)*time.Minute).UnixMilli(), 0, float64(k))
				}
			})
		}
		s.flush(t)
		ctx, cancel := context.WithCancel(t.Context())
		counted := make(chan error, 1)
		pool := pg.Pool(t)
		counts := 0
		go func() {
			defer close(counted)
			for ctx.Err() == nil {
				var n, distinct int
				err := pool.QueryRow(t.Context(), "SELECT count(*), count(DISTINCT (series_id, time)) FROM promkeep.samples('m')").Scan(&n, &distinct)
				if err == nil && (n != series*perSeries || distinct != n) {
					err = fmt.Errorf("%d samples, %d of them distinct", n, distinct)
				}
				if err != nil {
					counted <- err
					return
				}
				counts++
			}
		}()
		rounds := 15
		if testing.Short() {
			rounds = 4
		}
		for round := range rounds {
			// The same samples once more, late, and everything that is due for them.
			for i := range series {
				s.write(t, "", lset("m", i), func(b *storage.Batch) {
					for k := round % 7; k < perSeries; k += 7 {
						b.Float(day.Add(time.Duration(k)*time.Minute).UnixMilli(), 0, float64(k))
					}
				})
			}
			s.flush(t)
			s.now = s.now.Add(12 * time.Hour)
			s.gather(t)
		}
		cancel()
		require.NoError(t, <-counted)
		require.Greater(t, counts, rounds)
	})
}

// TestSamplesPlannedBeforeRowsMove holds a query up while it is being planned, moves rows to a partition that it did not find yet,
// and lets it go on.
func TestSamplesPlannedBeforeRowsMove(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		s := openStore(t, pg)
		pool := pg.Pool(t)
		put := func(at time.Time) {
			s.write(t, "", lset("m", 1), func(b *storage.Batch) { b.Float(at.UnixMilli(), 0, 1) })
			s.flush(t)
		}
		put(day)
		s.now = day.Add(30 * time.Hour)
		s.gather(t)
		put(s.now)

		var child string
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT tableoid::regclass::text FROM _promkeep.chunk LIMIT 1`).Scan(&child))
		holder, err := pool.Begin(t.Context())
		require.NoError(t, err)
		defer holder.Rollback(context.Background())
		_, err = holder.Exec(t.Context(), "LOCK TABLE "+child+" IN ACCESS EXCLUSIVE MODE")
		require.NoError(t, err)
		count := make(chan int, 1)
		go func() {
			n := -1
			if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM promkeep.samples('m')").Scan(&n); err != nil {
				t.Error(err)
			}
			count <- n
		}()
		require.Eventually(t, func() bool {
			var waiting int
			require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&waiting))
			return waiting > 0
		}, time.Minute, 5*time.Millisecond)
		s.now = s.now.Add(3 * time.Hour)
		s.exec(t, "UPDATE _promkeep.part SET opened_at = opened_at - interval '1 day'")
		maintained := make(chan error, 1)
		go func() { maintained <- s.Maintain(t.Context()) }() // it will wait for the query before it drops what was merged
		require.Eventually(t, func() bool {
			var levels string
			require.NoError(t, pool.QueryRow(t.Context(), "SELECT coalesce(string_agg(level::text, ','), '') FROM _promkeep.part WHERE merged_upto < 0").Scan(&levels))
			return levels == "1"
		}, time.Minute, 5*time.Millisecond, "the rows have moved to a new part")
		require.NoError(t, holder.Rollback(t.Context()))
		require.Equal(t, 2, <-count)
		require.NoError(t, <-maintained)
	})
}

// TestSamplesOfPartsThatCameSince: a transaction that has read before, and so has its locks already, finds what has come or moved to new parts since.
func TestSamplesOfPartsThatCameSince(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		s := openStore(t, pg)
		put := func(at time.Time) {
			s.write(t, "", lset("m", 1), func(b *storage.Batch) { b.Float(at.UnixMilli(), 0, 1) })
			s.flush(t)
		}
		put(day)
		tx, err := pg.Pool(t).Begin(t.Context())
		require.NoError(t, err)
		defer tx.Rollback(context.Background())
		count := func() (n int) {
			require.NoError(t, tx.QueryRow(t.Context(), "SELECT count(*) FROM promkeep.samples('m')").Scan(&n))
			return n
		}
		for range 10 { // whatever it has to look up only once is in its caches now
			require.Equal(t, 1, count())
		}
		put(day.Add(3 * time.Hour))
		require.Equal(t, 2, count(), "the flush has opened a part")
		s.now = day.Add(12 * time.Hour)
		s.exec(t, "UPDATE _promkeep.part SET opened_at = opened_at - interval '1 day'")
		require.NoError(t, s.Maintain(t.Context())) // its drop finds the transaction in its way
		require.Equal(t, 2, count(), "the merge has opened a part, and moved rows there")
	})
}

// TestSamplesPlannedAgain: a query that finds that rows have moved while it was planned plans again, in the same transaction, and then knows the partitions
// that they moved to.
func TestSamplesPlannedAgain(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		s := openStore(t, pg)
		s.write(t, "", lset("m", 1), func(b *storage.Batch) { b.Float(day.UnixMilli(), 0, 1) })
		s.flush(t)
		pool := pg.Pool(t)

		// The function as it is, but that it is not content with its first plans, and waits before the last. Advisory locks are none on tables.
		const turns, key = 8, 4711
		var text string
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT pg_get_functiondef('_promkeep.packed_rows'::regproc)").Scan(&text))
		for _, change := range [][2]string{
			{"\n    LOOP\n", fmt.Sprintf("\n    FOR turn IN 1..%d LOOP\n", turns)},
			{"IS NOT DISTINCT FROM before ORDER BY", fmt.Sprintf("IS NOT DISTINCT FROM before AND turn = %d ORDER BY", turns)},
			{"EXIT WHEN FOUND OR _promkeep.parts_state() IS NOT DISTINCT FROM before;", fmt.Sprintf("IF turn = %d THEN PERFORM pg_advisory_lock(%d); END IF;", turns-1, key)},
		} {
			require.Equal(t, 1, strings.Count(text, change[0]), change[0])
			text = strings.Replace(text, change[0], change[1], 1)
		}
		s.exec(t, text)

		holder, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		defer holder.Release()
		_, err = holder.Exec(t.Context(), "SELECT pg_advisory_lock($1)", key)
		require.NoError(t, err)
		count := make(chan int, 1)
		go func() {
			n := -1
			if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM promkeep.samples('m')").Scan(&n); err != nil {
				t.Error(err)
			}
			count <- n
		}()
		require.Eventually(t, func() bool {
			var waiting int
			require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted "+
				"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())", key).Scan(&waiting))
			return waiting > 0
		}, time.Minute, 5*time.Millisecond)
		s.now = day.Add(12 * time.Hour)
		s.exec(t, "UPDATE _promkeep.part SET opened_at = opened_at - interval '1 day'")
		require.NoError(t, s.Maintain(t.Context())) // its drop finds the query in its way
		var levels string
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT coalesce(string_agg(level::text, ','), '') FROM _promkeep.part WHERE merged_upto < 0").Scan(&levels))
		require.Equal(t, "1", levels, "the rows have moved to a new part")
		_, err = holder.Exec(t.Context(), "SELECT pg_advisory_unlock($1)", key)
		require.NoError(t, err)
		require.Equal(t, 1, <-count)
	})
}

// TestUsageInALongTransaction: a transaction that has its locks already counts rows that have moved to a part it did not know.
func TestUsageInALongTransaction(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		s := openStore(t, pg)
		s.write(t, "", lset("m", 1), func(b *storage.Batch) { b.Float(day.UnixMilli(), 0, 1) })
		s.flush(t)
		const usage = "SELECT coalesce(sum(samples), 0) FROM promkeep.usage"
		tx, err := pg.Pool(t).Begin(t.Context())
		require.NoError(t, err)
		defer tx.Rollback(context.Background())
		for range 8 { // until what could be a plan that is kept
			require.Equal(t, "1", one(t, tx, usage))
		}
		s.now = day.Add(12 * time.Hour)
		s.exec(t, "UPDATE _promkeep.part SET opened_at = opened_at - interval '1 day'")
		require.NoError(t, s.Maintain(t.Context())) // its drop finds the transaction in its way
		require.Equal(t, "1", one(t, pg.Pool(t), "SELECT level::text FROM _promkeep.part WHERE merged_upto < 0"), "the rows have moved to a new part")
		require.Equal(t, "1", one(t, tx, usage))
	})
}

// TestSamplesInOldSnapshots: a transaction that keeps its snapshot sees the same moment again, or is told that it cannot.
func TestSamplesInOldSnapshots(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		s := openStore(t, pg)
		put := func() {
			s.write(t, "", lset("m", 1), func(b *storage.Batch) { b.Float(s.now.UnixMilli(), 0, 1) })
			s.flush(t)
			s.now = s.now.Add(time.Hour)
		}
		put()
		tx, err := pg.Pool(t).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		require.NoError(t, err)
		defer tx.Rollback(context.Background())
		// The snapshot is taken, but nothing is locked.
		require.Equal(t, "2", one(t, tx, "SELECT 1 + 1"))
		put()
		require.Equal(t, "2", one(t, pg.Pool(t), "SELECT count(*) FROM promkeep.samples('m')"))
		s.now = s.now.Add(48 * time.Hour)
		s.gather(t)
		require.Equal(t, "2", one(t, pg.Pool(t), "SELECT count(*) FROM promkeep.samples('m')"))
		_, err = tx.Exec(t.Context(), "SELECT count(*) FROM promkeep.samples('m')")
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "40001", refused.Code, refused.Message)
		require.NoError(t, tx.Rollback(t.Context()))

		put()
		tx, err = pg.Pool(t).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		require.NoError(t, err)
		defer tx.Rollback(context.Background())
		require.Equal(t, "3", one(t, tx, "SELECT count(*) FROM promkeep.samples('m')"))
		put()
		require.Equal(t, "3", one(t, tx, "SELECT count(*) FROM promkeep.samples('m')"))
	})
}

// TestDamagedRowsAreNamed: an error, not wrong samples, and it says where.
func TestDamagedRowsAreNamed(t *testing.T) {
	s := openStore(t, pgtest.New(t))
	for i := range 2 {
		s.write(t, "", lset("m", i), func(b *storage.Batch) {
			for k := range 100 {
				b.Float(s.now.Add(time.Duration(k*k)*time.Millisecond).UnixMilli(), 0, float64(k*k*k))
			}
		})
	}
	s.flush(t)
	pool := s.pg.Pool(t)
	id := one(t, pool, `SELECT series_id FROM promkeep.series WHERE labels ->> 'i' = '1'`)
	require.Equal(t, "2", one(t, pool, `SELECT members FROM _promkeep.recent`), "both in one bundle, this series last")
	s.exec(t, `UPDATE _promkeep.recent SET data = overlay(data PLACING decode(repeat('ff', 100), 'hex') FROM octet_length(data) - 99)`)
	_, err := pool.Exec(t.Context(), "SELECT * FROM promkeep.samples('m')")
	require.ErrorContains(t, err, "series "+id+" cannot be read")
	require.Equal(t, "100", one(t, pool, `SELECT count(*) FROM promkeep.samples('m', '{"i": "0"}')`), "the others can be read")

	first := one(t, pool, `SELECT series_id FROM _promkeep.recent`)
	s.exec(t, `UPDATE _promkeep.recent SET data = substr(data, 1, octet_length(data) - 120)`)
	_, err = pool.Exec(t.Context(), "SELECT * FROM promkeep.samples('m')")
	require.ErrorContains(t, err, "bundle of series from "+first+" on cannot be read")
}

// BenchmarkSamples reads a day of 300 series, merged, the way Grafana does.
func BenchmarkSamples(b *testing.B) {
	s := openStore(b, pgtest.New(b))
	const series, perSeries = 300, 1440
	kinds := codectest.Kinds()
	for i := range series {
		v := kinds[i%len(kinds)].Values(uint64(i), perSeries)
		s.write(b, "", lset("m", i), func(batch *storage.Batch) {
			for k := range perSeries {
				batch.Float(day.Add(time.Duration(k)*time.Minute).UnixMilli(), 0, v[k])
			}
		})
	}
	s.flush(b)
	s.now = day.Add(48 * time.Hour)
	s.gather(b)
	conn, err := pgx.Connect(b.Context(), s.pg.URI)
	require.NoError(b, err)
	defer conn.Close(b.Context())
	for name, sql := range map[string]string{
		"aggregate": "SELECT count(value) FROM promkeep.samples('m')",
		"steps":     "SELECT sum(n) FROM (SELECT date_bin('5 min', time, '2000-01-01') AS step, labels ->> 'i' AS i, avg(value), count(*) AS n FROM promkeep.samples('m') GROUP BY 1, 2) AS x",
	} {
		b.Run(name, func(b *testing.B) {
			began := cpu(b, conn)
			for b.Loop() {
				require.Equal(b, fmt.Sprint(series*perSeries), one(b, conn, sql))
			}
			b.ReportMetric(float64(series*perSeries*b.N)/(cpu(b, conn)-began), "samples/cpu-s")
		})
	}
}
