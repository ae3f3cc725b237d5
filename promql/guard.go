package promql

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// The years a database and its clients can name. The API accepts ±292 million years (MinTime and MaxTime of upstream's
// api.go, which clients send as strings), and sums of them that wrap around.
var (
	minTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	maxTime = time.Date(9999, 12, 31, 23, 59, 59, 999_000_000, time.UTC).UnixMilli()
)

func clampTime(ms int64) int64 { return min(max(ms, minTime), maxTime) }

// guard stands between the API and the storage: it clamps times, classifies errors, and opens queriers only at the first
// call that has a context.
type guard struct {
	storage.SampleAndChunkQueryable
}

func (g *guard) Querier(mint, maxt int64) (storage.Querier, error) {
	return &guardedQuerier{guardedLabels[storage.Querier]{
		mint: clampTime(mint), maxt: clampTime(maxt), open: g.SampleAndChunkQueryable.Querier,
	}}, nil
}

func (g *guard) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	return &guardedChunkQuerier{guardedLabels[storage.ChunkQuerier]{
		mint: clampTime(mint), maxt: clampTime(maxt), open: g.SampleAndChunkQueryable.ChunkQuerier,
	}}, nil
}

// guardedLabels is what both kinds of querier have in common. Like any querier it is used by one goroutine at a time.
type guardedLabels[Q storage.LabelQuerier] struct {
	mint, maxt int64
	open       func(mint, maxt int64) (Q, error)

	opened  bool
	querier Q
}

func (q *guardedLabels[Q]) get() (Q, error) {
	if !q.opened {
		querier, err := q.open(q.mint, q.maxt)
		if err != nil {
			return querier, err
		}
		q.querier, q.opened = querier, true
	}
	return q.querier, nil
}

func (q *guardedLabels[Q]) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	querier, err := q.get()
	if err != nil {
		return nil, nil, classify(ctx, err)
	}
	values, warnings, err := querier.LabelValues(ctx, name, hints, ms...)
	return values, warnings, classify(ctx, err)
}

func (q *guardedLabels[Q]) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	querier, err := q.get()
	if err != nil {
		return nil, nil, classify(ctx, err)
	}
	names, warnings, err := querier.LabelNames(ctx, hints, ms...)
	return names, warnings, classify(ctx, err)
}

func (q *guardedLabels[Q]) Close() error {
	if !q.opened {
		return nil
	}
	return q.querier.Close()
}

type guardedQuerier struct{ guardedLabels[storage.Querier] }

func (q *guardedQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	querier, err := q.get()
	if err != nil {
		return storage.ErrSeriesSet(classify(ctx, err))
	}
	return &guardedSeriesSet{querier.Select(ctx, sorted, clampHints(hints), ms...), ctx}
}

type guardedChunkQuerier struct {
	guardedLabels[storage.ChunkQuerier]
}

func (q *guardedChunkQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.ChunkSeriesSet {
	querier, err := q.get()
	if err != nil {
		return storage.ErrChunkSeriesSet(classify(ctx, err))
	}
	return &guardedChunkSeriesSet{querier.Select(ctx, sorted, clampHints(hints), ms...), ctx}
}

func clampHints(hints *storage.SelectHints) *storage.SelectHints {
	if hints == nil || (clampTime(hints.Start) == hints.Start && clampTime(hints.End) == hints.End) {
		return hints
	}
	clamped := *hints
	clamped.Start, clamped.End = clampTime(hints.Start), clampTime(hints.End)
	return &clamped
}

// The sets keep the context of their Select: Err has none, and what an error means depends on whether the query had ended.
type guardedSeriesSet struct {
	storage.SeriesSet
	ctx context.Context
}

func (s *guardedSeriesSet) Err() error { return classify(s.ctx, s.SeriesSet.Err()) }

type guardedChunkSeriesSet struct {
	storage.ChunkSeriesSet
	ctx context.Context
}

func (s *guardedChunkSeriesSet) Err() error {
	return classify(s.ctx, s.ChunkSeriesSet.Err())
}

// guardedExemplars does the same for exemplars. Without a store of them every answer is empty.
type guardedExemplars struct {
	storage.ExemplarQueryable
}

func (g *guardedExemplars) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	if g.ExemplarQueryable == nil {
		return noExemplars{}, nil
	}
	q, err := g.ExemplarQueryable.ExemplarQuerier(ctx)
	if err != nil {
		return nil, classify(ctx, err)
	}
	return &guardedExemplarQuerier{q, ctx}, nil
}

type guardedExemplarQuerier struct {
	storage.ExemplarQuerier
	ctx context.Context
}

func (q *guardedExemplarQuerier) Select(start, end int64, ms ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	result, err := q.ExemplarQuerier.Select(clampTime(start), clampTime(end), ms...)
	if result == nil {
		result = []exemplar.QueryResult{} // An answer is a list, never null.
	}
	return result, classify(q.ctx, err)
}

type noExemplars struct{}

func (noExemplars) Select(int64, int64, ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	return []exemplar.QueryResult{}, nil
}
