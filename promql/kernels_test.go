package promql

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// bothWays is an engine for the corpus that beside each query runs it, over a range around its time, with and without
// kernels, and compares the answers bit by bit.
type bothWays struct {
	*Engine
	t             *testing.T
	with, without *Engine
	kernels, fell atomic.Int64
}

func newBothWays(t *testing.T) *bothWays {
	b := &bothWays{Engine: testEngine(t), t: t}
	opts := EngineOptions{Timeout: 100 * time.Second, MaxSamples: promqltest.DefaultMaxSamplesPerQuery, Features: Features{Parser: promqltest.TestParserOpts}}
	b.with, b.without = NewEngine(opts), NewEngine(opts)
	require.NotNil(t, b.with.kernels)
	b.without.kernels = nil
	t.Cleanup(func() {
		require.NoError(t, b.with.Close())
		require.NoError(t, b.without.Close())
	})
	return b
}

func (b *bothWays) NewInstantQuery(ctx context.Context, q storage.Queryable, opts upstream.QueryOpts, qs string, ts time.Time) (upstream.Query, error) {
	b.compare(q, qs, ts.Add(-7*time.Minute), ts.Add(5*time.Minute), 37*time.Second)
	b.compare(q, qs, ts, ts, time.Minute)
	return b.Engine.NewInstantQuery(ctx, q, opts, qs, ts)
}

func (b *bothWays) NewRangeQuery(ctx context.Context, q storage.Queryable, opts upstream.QueryOpts, qs string, start, end time.Time, interval time.Duration) (upstream.Query, error) {
	b.compare(q, qs, start, end, interval)
	return b.Engine.NewRangeQuery(ctx, q, opts, qs, start, end, interval)
}

func (b *bothWays) compare(q storage.Queryable, qs string, start, end time.Time, interval time.Duration) {
	if expr, err := b.Parser.ParseExpr(qs); err != nil || expr.Type() == parser.ValueTypeString || expr.Type() == parser.ValueTypeMatrix || interval <= 0 {
		return
	}
	v := evaluation{start: start, end: end, step: interval}
	v.engine, v.plain = b.without, b.without
	want := v.print(q, qs)
	v.engine, v.plain = b.with, b.with
	got := v.print(q, qs)
	v.engine, v.plain = b.without, b.without
	for range repeats {
		if len(want) == len(got) && equalLines(want, got) {
			break
		}
		want = v.print(q, qs) // where the engine does not make up its mind, one of its answers will do
	}
	require.Equal(b.t, want, got, "%s %s", qs, v)
	if qry, err := b.with.NewRangeQuery(context.Background(), sorted{q}, nil, qs, start, end, interval); err == nil {
		if k, ok := qry.(*queuedQuery).Query.(*kernelQuery); ok {
			b.kernels.Add(1)
			k.Exec(context.Background())
			if k.without.Load() {
				b.fell.Add(1)
			}
		}
		qry.Close()
	}
}

func equalLines(a, b []string) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestKernelsOnUpstreamCorpus asks all queries of upstream's corpus with and without kernels.
func TestKernelsOnUpstreamCorpus(t *testing.T) {
	t.Parallel()
	s := openStore(t, pgtest.New(t))
	b := newBothWays(t)
	promqltest.RunBuiltinTestsWithStorage(t, b, func(testing.TB) storage.Storage { return s.fresh(inHead) })
	t.Logf("%d queries have kernels, %d of them had to do without", b.kernels.Load(), b.fell.Load())
	require.Greater(t, b.kernels.Load()-b.fell.Load(), int64(200))
}

// TestKernelsKeepTheSampleLimit asks one query with every limit around what it takes: with and without kernels the same
// limits are too low.
func TestKernelsKeepTheSampleLimit(t *testing.T) {
	s := openStore(t, pgtest.New(t)).fresh(inHead)
	a := s.AppenderV2(context.Background())
	start := time.Unix(1_700_000_000, 0)
	for i := range 5 {
		for step := range 40 {
			at := start.Add(time.Duration(step) * 15 * time.Second)
			_, err := a.Append(0, labels.FromStrings("__name__", "a_total", "i", strconv.Itoa(i)), 0, at.UnixMilli(), float64(i*step), nil, nil, storage.AppendV2Options{})
			require.NoError(t, err)
		}
	}
	require.NoError(t, a.Commit())
	passed, refused := 0, 0
	for limit := 20; limit < 400; limit += 5 {
		engine := NewEngine(EngineOptions{MaxSamples: limit})
		var answers [2][]string
		for i := range answers {
			v := evaluation{engine: engine, start: start, end: start.Add(10 * time.Minute), step: 15 * time.Second}
			answers[i] = v.print(s, "sum(rate(a_total[2m])) / count(a_total)")
			engine.kernels = nil
		}
		require.Equal(t, answers[1], answers[0], "limit %d", limit)
		if strings.HasPrefix(answers[0][0], "error: ") {
			refused++
		} else {
			passed++
		}
		require.NoError(t, engine.Close())
	}
	require.NotZero(t, passed)
	require.NotZero(t, refused)
}

// TestKernelsEndWithTheQuery cancels queries in the midst of their kernels.
func TestKernelsEndWithTheQuery(t *testing.T) {
	s := openStore(t, pgtest.New(t)).fresh(merged)
	engine := NewEngine(EngineOptions{})
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	a := s.AppenderV2(context.Background())
	start := time.Unix(1_700_000_000, 0)
	_, err := a.Append(0, labels.FromStrings("__name__", "a_total"), 0, start.UnixMilli(), 1, nil, nil, storage.AppendV2Options{})
	require.NoError(t, err)
	require.NoError(t, a.Commit())
	ctx, cancel := context.WithCancel(context.Background())
	var q upstream.Query
	blocked := blockingQueryable{s, func() { q.Cancel() }}
	q, err = engine.NewRangeQuery(ctx, blocked, nil, "sum(rate(a_total[5m]))", start, start.Add(time.Hour), time.Minute)
	require.NoError(t, err)
	defer q.Close()
	require.ErrorIs(t, q.Exec(ctx).Err, context.Canceled, "as the storage says, through the engine")

	blocked.before = cancel
	q, err = engine.NewRangeQuery(ctx, blocked, nil, "sum(rate(a_total[5m]))", start, start.Add(time.Hour), time.Minute)
	require.NoError(t, err)
	defer q.Close()
	require.ErrorAs(t, q.Exec(ctx).Err, new(upstream.ErrQueryCanceled))
}

// blockingQueryable does something before it looks for series, and returns only when the query has ended.
type blockingQueryable struct {
	*tenantStorage
	before func()
}

func (b blockingQueryable) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := b.tenantStorage.Querier(mint, maxt)
	return blockingQuerier{q, b.before}, err
}

type blockingQuerier struct {
	storage.Querier
	before func()
}

func (b blockingQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	b.before()
	<-ctx.Done()
	return b.Querier.Select(ctx, sorted, hints, ms...)
}
