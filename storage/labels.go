package storage

import (
	"context"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/promkeep/promkeep/storage/catalogue"
)

// LabelValues implements storage.LabelQuerier.
func (q *querier) LabelValues(ctx context.Context, name string, hints *promstorage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	values := map[string]struct{}{}
	err := q.eachLabels(ctx, ms, func(l labels.Labels) {
		if v := l.Get(name); v != "" {
			values[v] = struct{}{}
		}
	})
	return finishNames(values, hints), nil, err
}

// LabelNames implements storage.LabelQuerier.
func (q *querier) LabelNames(ctx context.Context, hints *promstorage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	names := map[string]struct{}{}
	err := q.eachLabels(ctx, ms, func(l labels.Labels) {
		l.Range(func(l labels.Label) { names[l.Name] = struct{}{} })
	})
	return finishNames(names, hints), nil, err
}

// eachLabels calls fn for the labels of each series that matches and may have samples in the querier's range.
func (q *querier) eachLabels(ctx context.Context, ms []*labels.Matcher, fn func(labels.Labels)) error {
	tenant, ok, err := q.db.catalogue.LookupTenant(ctx, tenantOf(ctx))
	if err != nil {
		return unavailable(err)
	}
	if !ok {
		return nil
	}
	if len(ms) == 0 {
		ms = []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".*")}
	}
	inHead, err := q.db.head.Tenant(tenant).Select(ctx, ms...)
	if err != nil {
		return err
	}
	for _, s := range inHead {
		fn(s.Labels)
	}
	if cover := q.db.head.CoverFrom(); q.mint < cover {
		err = q.db.catalogue.Select(ctx, tenant, q.mint, min(q.maxt, cover-1), func(c catalogue.Series) error {
			fn(c.Labels)
			return nil
		}, ms...)
		if err != nil {
			return unavailable(err)
		}
	}
	return nil
}

func finishNames(set map[string]struct{}, hints *promstorage.LabelHints) []string {
	out := make([]string, 0, len(set))
	for v := range set {
		out = append(out, strings.Clone(v))
	}
	slices.Sort(out)
	if hints != nil && hints.Limit > 0 && len(out) > hints.Limit {
		out = out[:hints.Limit]
	}
	return out
}
