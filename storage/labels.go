package storage

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/head"
)

// Labels are found without looking at samples. The series in memory answer from their index, which covers all series that have
// not ended; the catalogue adds those that have.

// LabelValues implements storage.LabelQuerier.
func (q *querier) LabelValues(ctx context.Context, name string, hints *promstorage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	values, err := q.labels(ctx, hints,
		func(t *head.Tenant, keep head.Keep) ([]string, error) { return t.LabelValues(ctx, name, keep, ms...) },
		func(since catalogue.Moment, r catalogue.Range) ([]string, error) {
			return q.db.catalogue.LabelValues(ctx, since, r, name, ms...)
		})
	return values, nil, err
}

// LabelNames implements storage.LabelQuerier.
func (q *querier) LabelNames(ctx context.Context, hints *promstorage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	names, err := q.labels(ctx, hints,
		func(t *head.Tenant, keep head.Keep) ([]string, error) { return t.LabelNames(ctx, keep, ms...) },
		func(since catalogue.Moment, r catalogue.Range) ([]string, error) {
			return q.db.catalogue.LabelNames(ctx, since, r, ms...)
		})
	return names, nil, err
}

// labels brings together what memory and, for a range that begins before what memory covers, the catalogue know.
func (q *querier) labels(ctx context.Context, hints *promstorage.LabelHints, inMemory func(*head.Tenant, head.Keep) ([]string, error),
	ended func(catalogue.Moment, catalogue.Range) ([]string, error),
) ([]string, error) {
	tenant, ok, err := q.db.catalogue.LookupTenant(ctx, tenantOf(ctx))
	if err != nil {
		return nil, unavailable(err)
	}
	if !ok || q.mint > q.maxt {
		return nil, nil
	}
	limit := 0
	if hints != nil {
		limit = max(hints.Limit, 0)
	}
	for {
		out, err := q.labelsOnce(ctx, tenant, limit, inMemory, ended)
		if !errors.Is(err, catalogue.ErrChanged) {
			return out, err
		}
	}
}

func (q *querier) labelsOnce(ctx context.Context, tenant int32, limit int, inMemory func(*head.Tenant, head.Keep) ([]string, error),
	ended func(catalogue.Moment, catalogue.Range) ([]string, error),
) (out []string, err error) {
	since := q.db.catalogue.Moment()
	t := q.db.head.Tenant(tenant)
	overlaps := q.maxt >= q.db.head.CoverFrom() && t.Overlaps(q.mint, q.maxt)
	cover := q.db.head.CoverFrom() // asked after the look into memory, as ever
	switch {
	case overlaps && q.maxt >= cover:
		out, err = inMemory(t, nil)
	case q.mint < cover:
		// The series in memory may have samples in the database, but none before they started.
		until := catalogue.Hour(q.maxt)
		out, err = inMemory(t, func(s *head.Series) bool { return s.Started() <= until || s.Overlaps(q.mint, q.maxt) })
	}
	if err != nil {
		return nil, err
	}
	if q.mint < cover {
		more, err := ended(since, catalogue.Range{Tenant: tenant, Mint: q.mint, Maxt: min(q.maxt, cover-1), Limit: limit})
		if errors.Is(err, catalogue.ErrChanged) {
			return nil, err
		}
		if err != nil {
			return nil, unavailable(err)
		}
		out = append(out, more...)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out, nil
}
