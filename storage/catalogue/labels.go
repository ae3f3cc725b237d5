package catalogue

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/schema"
)

// Range says of which series labels are wanted.
type Range struct {
	Tenant     int32
	Mint, Maxt int64 // ms: series that may have samples there
	Limit      int   // of the answer, the first in order; 0 is none
}

// LabelValues returns the distinct values of a label over the series of the tenant that match and have ended, in order.
func (c *Catalogue) LabelValues(ctx context.Context, r Range, name string, ms ...*labels.Matcher) ([]string, error) {
	f, err := c.filter(ctx, r, ms)
	if err != nil || f.nothing {
		return nil, err
	}
	if name == model.MetricNameLabel {
		names, err := c.texts(ctx, f, schema.EndedMetrics, schema.EndedMetricsPairs, r.limit())
		return slices.DeleteFunc(names, func(name string) bool { return name == "" }), err
	}
	return c.texts(ctx, f, schema.EndedLabelValues, schema.EndedLabelValuesPairs, name, r.limit())
}

// LabelNames returns the distinct label names of the series of the tenant that match and have ended, in no order.
func (c *Catalogue) LabelNames(ctx context.Context, r Range, ms ...*labels.Matcher) ([]string, error) {
	f, err := c.filter(ctx, r, ms)
	if err != nil || f.nothing {
		return nil, err
	}
	names, err := c.texts(ctx, f, schema.EndedLabelNames, schema.EndedLabelNamesPairs, r.limit())
	if err != nil {
		return nil, err
	}
	// Every series has a metric, which stands in its ID and not among its pairs.
	metrics, err := c.texts(ctx, f, schema.EndedMetrics, schema.EndedMetricsPairs, 1)
	if len(metrics) > 0 {
		names = append(names, model.MetricNameLabel)
	}
	return names, err
}

// limit is what LIMIT takes: NULL for none.
func (r Range) limit() *int {
	if r.Limit <= 0 {
		return nil
	}
	return &r.Limit
}

// texts asks the query all, or few if a few label pairs narrow the search.
func (c *Catalogue) texts(ctx context.Context, f filter, all, few string, more ...any) ([]string, error) {
	query, args := all, slices.Concat(f.args, more)
	if f.few != nil {
		query, args = few, append(args, f.few)
	}
	rows, err := c.reads.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// filter is matchers as PostgreSQL takes them, exactly: whatever matches is decided here, on the dictionary.
type filter struct {
	nothing bool    // no series can match
	args    []any   // metrics, hours of the range's end and start, number of pairs that a series must have, among which, and among which none
	few     []int32 // pairs of which a series must have one, if some matcher leaves only few
}

// fewPairs is up to how many pairs are looked up in the index on pairs.
const fewPairs = 100

func (c *Catalogue) filter(ctx context.Context, r Range, ms []*labels.Matcher) (filter, error) {
	nothing := filter{nothing: true}
	metrics, err := c.matchMetrics(ctx, r.Tenant, ms)
	if err != nil || len(metrics) == 0 {
		return nothing, err
	}
	slices.Sort(metrics)
	byName := map[string][]*labels.Matcher{}
	for _, m := range ms {
		if m.Name != model.MetricNameLabel {
			byName[m.Name] = append(byName[m.Name], m)
		}
	}
	must, mustNot, want := []int32{}, []int32{}, 0
	var few []int32
	for name, ms := range byName {
		matches := func(value string) bool {
			return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(value) })
		}
		// A series without the label has it as "". If that matches, the values that do not are what it must not have.
		absent := matches("")
		ids, err := c.pairsOf(ctx, name, ms, absent, func(value string) bool { return matches(value) != absent })
		switch {
		case err != nil:
			return nothing, err
		case absent:
			mustNot = append(mustNot, ids...)
		case len(ids) == 0:
			return nothing, nil
		default:
			if len(ids) <= fewPairs && (few == nil || len(ids) < len(few)) {
				few = ids
			}
			must = append(must, ids...)
			want++
		}
	}
	return filter{args: []any{metrics, Hour(r.Maxt), Hour(r.Mint), want, must, mustNot}, few: few}, nil
}

// pairsOf returns the pairs of the label whose values are wanted, which are those that match ms, or with not those that do not.
func (c *Catalogue) pairsOf(ctx context.Context, name string, ms []*labels.Matcher, not bool, wanted func(string) bool) ([]int32, error) {
	query, args := schema.LabelValuesOf, []any{name}
	if values, ok := candidates(ms, not); ok {
		query, args = schema.LabelValuesIn, append(args, values)
	}
	rows, err := c.reads.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	var (
		ids   []int32
		id    int32
		value string
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &value}, func() error {
		if wanted(value) {
			ids = append(ids, id)
		}
		return nil
	})
	return ids, err
}

// candidates returns the only values that can match all of ms, or with not the only ones that some of ms refuses.
func candidates(ms []*labels.Matcher, not bool) ([]string, bool) {
	var refused []string
	for _, m := range ms {
		positive := m.Type == labels.MatchEqual || m.Type == labels.MatchRegexp
		values := []string{m.Value}
		if m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp {
			values = m.SetMatches()
		}
		switch {
		case len(values) == 0 || positive == not:
			if not {
				return nil, false
			}
		case positive:
			return values, true
		default:
			refused = append(refused, values...)
		}
	}
	return refused, not
}
