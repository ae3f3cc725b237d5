package tenancy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"golang.org/x/sync/errgroup"

	"github.com/promkeep/promkeep/storage"
)

const (
	// TenantLabel is what the series of a query of several tenants have beside their own labels: the name of their tenant.
	TenantLabel = "__tenant_id__"
	// OriginalLabel is the name that a label TenantLabel of their own gets there.
	OriginalLabel = "original_" + TenantLabel
)

// parallel is how many tenants are asked at once for labels.
const parallel = 8

type tenantsKey struct{}

// WithTenants makes queries with the context read these tenants, which are in order and differ; without any, the default one.
// For more than one the store has to be a Federated.
func WithTenants(ctx context.Context, tenants []string) context.Context {
	switch len(tenants) {
	case 0:
		return ctx
	case 1:
		return storage.WithTenant(ctx, tenants[0])
	}
	// What does not know of several finds a tenant that cannot be, and not the default one.
	ctx = storage.WithTenant(ctx, strings.Join(tenants, "|"))
	return context.WithValue(ctx, tenantsKey{}, tenants)
}

// several returns the tenants of a query of several, otherwise nil.
func several(ctx context.Context) []string {
	tenants, _ := ctx.Value(tenantsKey{}).([]string)
	return tenants
}

// Store answers for the tenant of the context, as storage.DB does.
type Store interface {
	promstorage.SampleAndChunkQueryable
	promstorage.ExemplarQueryable
	MetricMetadata(ctx context.Context, metric string, limit, perMetric int) (map[string][]metadata.Metadata, error)
	Stats(ctx context.Context, label string, limit int) (*tsdb.Stats, error)
}

// Federated is a Store that answers for several tenants as Mimir's tenant federation does
// (https://grafana.com/docs/mimir/latest/references/architecture/query-tenant-federation/): their series together, each with
// the label TenantLabel, by which queries can select. A query of one tenant passes through unchanged, without that label.
type Federated struct{ store Store }

// Federate returns a Store over store.
func Federate(store Store) *Federated { return &Federated{store} }

// Querier implements storage.Queryable.
func (f *Federated) Querier(mint, maxt int64) (promstorage.Querier, error) {
	q, err := f.store.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return &querier{q, labelQuerier{q}}, nil
}

// ChunkQuerier implements storage.ChunkQueryable.
func (f *Federated) ChunkQuerier(mint, maxt int64) (promstorage.ChunkQuerier, error) {
	q, err := f.store.ChunkQuerier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return &chunkQuerier{q, labelQuerier{q}}, nil
}

type querier struct {
	promstorage.Querier
	labelQuerier
}

func (q *querier) Close() error { return q.Querier.Close() }

func (q *querier) LabelValues(ctx context.Context, name string, hints *promstorage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.labelQuerier.LabelValues(ctx, name, hints, ms...)
}

func (q *querier) LabelNames(ctx context.Context, hints *promstorage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.labelQuerier.LabelNames(ctx, hints, ms...)
}

func (q *querier) Select(ctx context.Context, sorted bool, hints *promstorage.SelectHints, ms ...*labels.Matcher) promstorage.SeriesSet {
	all := several(ctx)
	if all == nil {
		return q.Querier.Select(ctx, sorted, hints, ms...)
	}
	union := &union[promstorage.Series, promstorage.SeriesSet]{sorted: sorted, limit: limitOf(hints), label: withLabels}
	ask(ctx, all, ms, func(ctx context.Context, tenant string, ms []*labels.Matcher) {
		union.add(tenant, q.Querier.Select(ctx, sorted, hints, ms...))
	})
	return union
}

type chunkQuerier struct {
	promstorage.ChunkQuerier
	labelQuerier
}

func (q *chunkQuerier) Close() error { return q.ChunkQuerier.Close() }

func (q *chunkQuerier) LabelValues(ctx context.Context, name string, hints *promstorage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.labelQuerier.LabelValues(ctx, name, hints, ms...)
}

func (q *chunkQuerier) LabelNames(ctx context.Context, hints *promstorage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.labelQuerier.LabelNames(ctx, hints, ms...)
}

func (q *chunkQuerier) Select(ctx context.Context, sorted bool, hints *promstorage.SelectHints, ms ...*labels.Matcher) promstorage.ChunkSeriesSet {
	all := several(ctx)
	if all == nil {
		return q.ChunkQuerier.Select(ctx, sorted, hints, ms...)
	}
	union := &union[promstorage.ChunkSeries, promstorage.ChunkSeriesSet]{sorted: sorted, limit: limitOf(hints), label: withLabelsOfChunks}
	ask(ctx, all, ms, func(ctx context.Context, tenant string, ms []*labels.Matcher) {
		union.add(tenant, q.ChunkQuerier.Select(ctx, sorted, hints, ms...))
	})
	return union
}

func limitOf(hints *promstorage.SelectHints) int {
	if hints == nil {
		return 0
	}
	return hints.Limit
}

// ask calls fn for each tenant that matchers of TenantLabel leave, with its context and what the other matchers are to it.
func ask(ctx context.Context, tenants []string, ms []*labels.Matcher, fn func(ctx context.Context, tenant string, ms []*labels.Matcher)) {
	for _, tenant := range tenants {
		if own, ok := matchersFor(tenant, ms); ok {
			fn(storage.WithTenant(ctx, tenant), tenant, own)
		}
	}
}

// anySeries matches every series: none is without a name.
var anySeries = labels.MustNewMatcher(labels.MatchNotEqual, model.MetricNameLabel, "")

// matchersFor returns the matchers without those of TenantLabel; ok is false if one of these does not match the tenant.
func matchersFor(tenant string, ms []*labels.Matcher) (own []*labels.Matcher, ok bool) {
	for _, m := range ms {
		switch m.Name {
		case TenantLabel:
			if !m.Matches(tenant) {
				return nil, false
			}
		case OriginalLabel:
			renamed := *m
			renamed.Name = TenantLabel
			own = append(own, &renamed)
		default:
			own = append(own, m)
		}
	}
	if len(ms) > 0 && len(own) == 0 {
		own = []*labels.Matcher{anySeries}
	}
	return own, true
}

// tenantLabels adds the tenant to the labels of a series.
func tenantLabels(b *labels.Builder, lset labels.Labels, tenant string) labels.Labels {
	b.Reset(lset)
	if original := lset.Get(TenantLabel); original != "" {
		b.Set(OriginalLabel, original)
	}
	return b.Set(TenantLabel, tenant).Labels()
}

// seriesSet is what sets of series with samples and with chunks have in common.
type seriesSet[S any] interface {
	Next() bool
	At() S
	Err() error
	Warnings() annotations.Annotations
}

// union is the series of several tenants.
type union[S promstorage.Labels, Set seriesSet[S]] struct {
	sorted bool
	limit  int
	label  func(S, labels.Labels) S

	tenants []string
	sets    []Set

	drained bool
	series  []S
	at      int
	err     error
}

func (u *union[S, Set]) add(tenant string, set Set) {
	u.tenants, u.sets = append(u.tenants, tenant), append(u.sets, set)
}

// drain brings the series together. Adding a label can change the order of two series of one tenant (one of them may have
// only labels that come before it), so a merge would not do. The samples are not touched.
func (u *union[S, Set]) drain() {
	b := labels.NewBuilder(labels.EmptyLabels())
	for i, set := range u.sets {
		for set.Next() {
			s := set.At()
			u.series = append(u.series, u.label(s, tenantLabels(b, s.Labels(), u.tenants[i])))
		}
		if err := set.Err(); err != nil {
			u.series, u.err = nil, fmt.Errorf("tenant %s: %w", u.tenants[i], err)
			return
		}
	}
	if u.sorted || u.limit > 0 {
		slices.SortFunc(u.series, func(a, b S) int { return labels.Compare(a.Labels(), b.Labels()) })
	}
	if u.limit > 0 && len(u.series) > u.limit {
		u.series = u.series[:u.limit]
	}
}

func (u *union[S, Set]) Next() bool {
	if !u.drained {
		u.drain()
		u.drained, u.at = true, -1
	}
	u.at++
	return u.at < len(u.series)
}

func (u *union[S, Set]) At() S      { return u.series[u.at] }
func (u *union[S, Set]) Err() error { return u.err }

func (u *union[S, Set]) Warnings() annotations.Annotations {
	var all annotations.Annotations
	for _, set := range u.sets {
		all.Merge(set.Warnings())
	}
	return all
}

// labelled is a series under other labels. Its iterators are those of the series.
type labelled struct {
	promstorage.Series
	lset labels.Labels
}

func (s *labelled) Labels() labels.Labels                                 { return s.lset }
func (s *labelled) Iterator(it chunkenc.Iterator) chunkenc.Iterator       { return s.Series.Iterator(it) }
func withLabels(s promstorage.Series, l labels.Labels) promstorage.Series { return &labelled{s, l} }

type labelledChunks struct {
	promstorage.ChunkSeries
	lset labels.Labels
}

func (s *labelledChunks) Labels() labels.Labels { return s.lset }
func (s *labelledChunks) Iterator(it chunks.Iterator) chunks.Iterator {
	return s.ChunkSeries.Iterator(it)
}

func withLabelsOfChunks(s promstorage.ChunkSeries, l labels.Labels) promstorage.ChunkSeries {
	return &labelledChunks{s, l}
}

// labelQuerier answers for labels.
type labelQuerier struct{ promstorage.LabelQuerier }

// LabelNames implements storage.LabelQuerier.
func (q labelQuerier) LabelNames(ctx context.Context, hints *promstorage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	all := several(ctx)
	if all == nil {
		return q.LabelQuerier.LabelNames(ctx, hints, ms...)
	}
	return q.gather(ctx, all, hints, ms, func(ctx context.Context, _ string, ms []*labels.Matcher) ([]string, annotations.Annotations, error) {
		names, warnings, err := q.LabelQuerier.LabelNames(ctx, hints, ms...)
		if i := slices.Index(names, TenantLabel); i >= 0 {
			names = append(slices.Clone(names), OriginalLabel)
		}
		if len(names) > 0 {
			names = append(slices.Clip(names), TenantLabel)
		}
		return names, warnings, err
	})
}

// LabelValues implements storage.LabelQuerier.
func (q labelQuerier) LabelValues(ctx context.Context, name string, hints *promstorage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	all := several(ctx)
	if all == nil {
		return q.LabelQuerier.LabelValues(ctx, name, hints, ms...)
	}
	switch name {
	case TenantLabel:
		// The tenants that have a series that matches.
		return q.gather(ctx, all, hints, ms, func(ctx context.Context, tenant string, ms []*labels.Matcher) ([]string, annotations.Annotations, error) {
			names, warnings, err := q.LabelQuerier.LabelNames(ctx, &promstorage.LabelHints{Limit: 1}, ms...)
			if len(names) == 0 {
				return nil, warnings, err
			}
			return []string{tenant}, warnings, err
		})
	case OriginalLabel:
		name = TenantLabel
	}
	return q.gather(ctx, all, hints, ms, func(ctx context.Context, _ string, ms []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelQuerier.LabelValues(ctx, name, hints, ms...)
	})
}

// gather asks the tenants, some at a time, and puts the answers in order, each once.
func (q labelQuerier) gather(ctx context.Context, tenants []string, hints *promstorage.LabelHints, ms []*labels.Matcher,
	one func(ctx context.Context, tenant string, ms []*labels.Matcher) ([]string, annotations.Annotations, error),
) ([]string, annotations.Annotations, error) {
	var (
		answers  = make([][]string, len(tenants))
		warnings = make([]annotations.Annotations, len(tenants))
		at       = -1
	)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	ask(ctx, tenants, ms, func(ctx context.Context, tenant string, ms []*labels.Matcher) {
		at++
		i := at
		group.Go(func() (err error) {
			if answers[i], warnings[i], err = one(ctx, tenant, ms); err != nil {
				return fmt.Errorf("tenant %s: %w", tenant, err)
			}
			return nil
		})
	})
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	out := slices.Concat(answers...)
	slices.Sort(out)
	out = slices.Compact(out)
	if hints != nil && hints.Limit > 0 && len(out) > hints.Limit {
		out = out[:hints.Limit]
	}
	var all annotations.Annotations
	for _, w := range warnings {
		all.Merge(w)
	}
	return out, all, nil
}

// ExemplarQuerier implements storage.ExemplarQueryable.
func (f *Federated) ExemplarQuerier(ctx context.Context) (promstorage.ExemplarQuerier, error) {
	all := several(ctx)
	if all == nil {
		return f.store.ExemplarQuerier(ctx)
	}
	q := &exemplarQuerier{tenants: all}
	for _, tenant := range all {
		one, err := f.store.ExemplarQuerier(storage.WithTenant(ctx, tenant))
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", tenant, err)
		}
		q.queriers = append(q.queriers, one)
	}
	return q, nil
}

type exemplarQuerier struct {
	tenants  []string
	queriers []promstorage.ExemplarQuerier
}

// Select implements storage.ExemplarQuerier.
func (q *exemplarQuerier) Select(start, end int64, matchers ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	var out []exemplar.QueryResult
	b := labels.NewBuilder(labels.EmptyLabels())
	for i, tenant := range q.tenants {
		var own [][]*labels.Matcher
		for _, ms := range matchers {
			if ms, ok := matchersFor(tenant, ms); ok {
				own = append(own, ms)
			}
		}
		if len(own) == 0 {
			continue
		}
		results, err := q.queriers[i].Select(start, end, own...)
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", tenant, err)
		}
		for _, r := range results {
			r.SeriesLabels = tenantLabels(b, r.SeriesLabels, tenant)
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b exemplar.QueryResult) int { return labels.Compare(a.SeriesLabels, b.SeriesLabels) })
	return out, nil
}
