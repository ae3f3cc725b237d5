package storage

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
	"github.com/promkeep/promkeep/storage/samplelog"
)

func trace(id string, value float64, t int64) exemplar.Exemplar {
	return exemplar.Exemplar{Labels: labels.FromStrings("trace_id", id), Value: value, Ts: t, HasTs: true}
}

// writeExemplars commits exemplars of one series as a request.
func writeExemplars(t testing.TB, db *DB, tenant string, lset labels.Labels, list ...exemplar.Exemplar) {
	t.Helper()
	b, err := db.NewBatch(context.Background(), tenant)
	require.NoError(t, err)
	defer b.Release()
	if key := keyOf(lset); !b.Known(key) {
		b.New(key, lset)
	}
	for _, e := range list {
		b.Exemplar(e)
	}
	require.NoError(t, b.Commit(context.Background()))
}

func readExemplars(t testing.TB, db *DB, tenant string, start, end int64, ms ...[]*labels.Matcher) map[string][]exemplar.Exemplar {
	t.Helper()
	q, err := db.ExemplarQuerier(WithTenant(context.Background(), tenant))
	require.NoError(t, err)
	found, err := q.Select(start, end, ms...)
	require.NoError(t, err)
	out := map[string][]exemplar.Exemplar{}
	for i, r := range found {
		if i > 0 {
			require.Negative(t, labels.Compare(found[i-1].SeriesLabels, r.SeriesLabels), "in order, each series once")
		}
		out[r.SeriesLabels.String()] = r.Exemplars
	}
	return out
}

// TestExemplarsAtEachStage: what was acknowledged is there once: in memory, after a restart from the log, flushed, sent again,
// and after its series has left memory; in the range and for the tenant asked for.
func TestExemplarsAtEachStage(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		ctx := context.Background()
		c := &clock{day.Add(time.Hour)}
		cfg := testConfig(t, pg, c)
		db := open(t, cfg)
		t0 := day.UnixMilli()
		odd := exemplar.Exemplar{Labels: labels.FromStrings("a", "ä", "span_id", strings.Repeat("x", 100)), Value: math.Inf(-1), Ts: t0 + 2000, HasTs: true}
		put := func() {
			writeExemplars(t, db, "", lset("m", 1), trace("two", 2, t0+1000), trace("one", 1, t0), odd)
			writeExemplars(t, db, "", lset("m", 2), trace("one", 1, t0), trace("other", 1, t0), trace("one", 3, t0))
			writeExemplars(t, db, "other", lset("m", 1), trace("secret", 1, t0))
		}
		m1, m2 := []*labels.Matcher{eq("i", "1")}, []*labels.Matcher{eq("__name__", "m"), eq("i", "2")}
		check := func(stage string) {
			t.Helper()
			one := []exemplar.Exemplar{trace("one", 1, t0), trace("two", 2, t0+1000), odd}
			two := []exemplar.Exemplar{trace("one", 1, t0), trace("other", 1, t0), trace("one", 3, t0)}
			require.Equal(t, map[string][]exemplar.Exemplar{lset("m", 1).String(): one, lset("m", 2).String(): two},
				readExemplars(t, db, DefaultTenant, t0, c.now.UnixMilli(), m1, m2, m1), stage)
			require.Equal(t, map[string][]exemplar.Exemplar{lset("m", 1).String(): one[1:2]},
				readExemplars(t, db, DefaultTenant, t0+1, t0+1999, m1, m2), stage)
			require.Equal(t, map[string][]exemplar.Exemplar{lset("m", 1).String(): {trace("secret", 1, t0)}},
				readExemplars(t, db, "other", t0, c.now.UnixMilli(), m1), stage)
			require.Empty(t, readExemplars(t, db, "nobody", t0, c.now.UnixMilli(), m1), stage)
			require.Empty(t, readExemplars(t, db, DefaultTenant, t0, c.now.UnixMilli(), []*labels.Matcher{eq("i", "3")}), stage)
		}
		restart := func() {
			t.Helper()
			require.NoError(t, db.Close())
			db = open(t, cfg)
		}
		put()
		check("in memory")
		restart()
		check("replayed from the log")
		put()
		check("sent again")
		require.NoError(t, db.Flush(ctx))
		require.Empty(t, db.exemplars.open)
		require.Empty(t, db.exemplars.sealed)
		require.Zero(t, countRows(t, pg, wholeLog))
		check("flushed")
		put()
		check("sent again after the flush")
		restart()
		check("restarted, half in the database and half in the log")
		require.NoError(t, db.Flush(ctx))
		require.Equal(t, 7, countRows(t, pg, "_promkeep.exemplar"), "each once")
		c.now = day.Add(24 * time.Hour)
		endSeries(t, db)
		require.Zero(t, db.head.Len())
		check("ended")
	})
}

// TestExemplarsAreBounded: in memory, per series, and by the retention.
func TestExemplarsAreBounded(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(time.Hour)}
	cfg := testConfig(t, pg, c)
	cfg.Retention = 10 * 24 * time.Hour
	db := open(t, cfg)
	t0 := day.UnixMilli()
	list := make([]exemplar.Exemplar, 0, maxExemplarsPerSeries+100)
	for i := range cap(list) {
		list = append(list, trace(fmt.Sprint(i), float64(i), t0+int64(i)))
	}
	writeExemplars(t, db, "", lset("m", 1), list...)
	writeExemplars(t, db, "", lset("m", 2), list[:10]...)
	require.NoError(t, db.Flush(ctx))
	require.Equal(t, map[string][]exemplar.Exemplar{lset("m", 1).String(): list[100:], lset("m", 2).String(): list[:10]},
		readExemplars(t, db, DefaultTenant, t0, c.now.UnixMilli(), []*labels.Matcher{eq("__name__", "m")}), "the youngest stay")

	c.now = day.Add(11 * 24 * time.Hour)
	require.NoError(t, tryWrite(db, "", lset("m", 3), sample{c.now.UnixMilli(), 1})) // The retention follows the samples.
	require.Empty(t, readExemplars(t, db, DefaultTenant, t0, c.now.UnixMilli(), []*labels.Matcher{eq("__name__", "m")}))
	require.NoError(t, db.Flush(ctx))
	require.Zero(t, countRows(t, pg, "_promkeep.exemplar"))

	var b exemplarBuffer
	for i := range 2*maxExemplars + 5 {
		b.add(exemplarItem{t: int64(i)})
	}
	require.Len(t, b.open, maxExemplars)
	b.advance()
	oldest := int64(math.MaxInt64)
	for _, e := range b.sealed {
		oldest = min(oldest, e.t)
	}
	require.Equal(t, int64(maxExemplars+5), oldest, "the youngest stay")
	b.add(exemplarItem{t: -1})
	b.flushed(false)
	b.advance()
	require.Len(t, b.sealed, maxExemplars)
	require.Equal(t, int64(-1), b.sealed[maxExemplars-1].t)
	b.flushed(true)
	require.Empty(t, b.sealed)
}

// TestAFailedFlushKeepsExemplars: they wait for the next flush.
func TestAFailedFlushKeepsExemplars(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	db := open(t, testConfig(t, pg, &clock{day.Add(time.Hour)}))
	pool, t0 := pg.Pool(t), day.UnixMilli()
	all := []*labels.Matcher{eq("__name__", "m")}
	writeExemplars(t, db, "", lset("m", 1), trace("a", 1, t0))
	_, err := pool.Exec(ctx, "ALTER TABLE _promkeep.exemplar ADD CONSTRAINT none CHECK (value < 0)")
	require.NoError(t, err)
	require.Error(t, db.Flush(ctx))
	writeExemplars(t, db, "", lset("m", 1), trace("b", 2, t0+1))
	want := map[string][]exemplar.Exemplar{lset("m", 1).String(): {trace("a", 1, t0), trace("b", 2, t0+1)}}
	require.Equal(t, want, readExemplars(t, db, DefaultTenant, t0, t0+1, all))
	_, err = pool.Exec(ctx, "ALTER TABLE _promkeep.exemplar DROP CONSTRAINT none")
	require.NoError(t, err)
	require.NoError(t, db.Flush(ctx))
	require.Equal(t, 2, countRows(t, pg, "_promkeep.exemplar"))
	require.Equal(t, want, readExemplars(t, db, DefaultTenant, t0, t0+1, all))
}

// TestExemplarsInThePayload are read back between samples, from blocks that fit into rows.
func TestExemplarsInThePayload(t *testing.T) {
	var w payloadWriter
	var want []logged
	for i := range 500 {
		id, at := uint64(i)<<30, int64(i)*1000
		l := string(appendLabels(nil, labels.FromStrings("trace_id", strings.Repeat("ä", i%128), "x", "")))
		want = append(want, logged{id: id, t: at, bits: math.Float64bits(1.5)}, logged{id: id, t: at + 1, bits: math.Float64bits(math.Pi), labels: l})
		w.float(id, at, 0, 1.5)
		w.exemplar(id, at+1, math.Pi, l)
		got, err := readLabels([]byte(l))
		require.NoError(t, err)
		require.Equal(t, strings.Repeat("ä", i%128), got.Get("trace_id"))
	}
	var rows [][]byte
	for _, b := range w.finish() {
		require.LessOrEqual(t, len(b), samplelog.MaxBlock)
		rows = append(rows, b)
	}
	got, err := readAll(rows)
	require.NoError(t, err)
	require.Equal(t, want, got)
	_, err = readLabels([]byte{5, 'x'})
	require.ErrorIs(t, err, errPayload)
}
