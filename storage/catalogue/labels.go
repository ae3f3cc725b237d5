package catalogue

import (
	"context"
	"errors"
	"slices"
	"strconv"

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

// inDays returns the range in whole days if it has two or more, so that what is remembered serves while the range moves on with the clock, as those of
// dashboards do. Labels of series that ended up to a day before it, or began up to a day after it, are in the answer then; Prometheus answers for whole blocks.
func (r Range) inDays() Range {
	const day, hour = 24, 3600_000
	from, to := int64(Hour(r.Mint)), int64(Hour(r.Maxt))
	if to-from < 2*day {
		return r
	}
	floor := func(h int64) int64 { return h - (h%day+day)%day }
	r.Mint, r.Maxt = floor(from)*hour, (floor(to)+day)*hour-1
	return r
}

// ErrChanged means that a search came too late for what it needs to know, and must begin again.
var ErrChanged = errors.New("the catalogue has changed meanwhile")

// LabelValues returns the distinct values of a label over the series of the tenant that match and have ended, in no order; some
// of others may be among them, but all exist; a range of days counts from midnight to midnight. What has ended since the moment is included. Of more than the limit the first in order
// are there.
func (c *Catalogue) LabelValues(ctx context.Context, since Moment, r Range, name string, ms ...*labels.Matcher) ([]string, error) {
	r = r.inDays()
	values, err := c.strings(ctx, "values "+strconv.Quote(name), r, ms, func(f filter) ([]string, error) {
		if name == model.MetricNameLabel {
			names, err := c.metricNames(ctx, f, r.limit())
			return slices.DeleteFunc(names, func(name string) bool { return name == "" }), err
		}
		return c.texts(ctx, f, schema.EndedLabelValues, schema.EndedLabelValuesPairs, name, r.limit())
	})
	if err != nil {
		return nil, err
	}
	return c.withRecent(ctx, since, r, ms, values, func(l labels.Labels, add func(string)) {
		if v := l.Get(name); v != "" {
			add(v)
		}
	})
}

// LabelNames returns the distinct label names of the series of the tenant that match and have ended, as LabelValues does.
func (c *Catalogue) LabelNames(ctx context.Context, since Moment, r Range, ms ...*labels.Matcher) ([]string, error) {
	r = r.inDays()
	names, err := c.strings(ctx, "names", r, ms, func(f filter) ([]string, error) {
		names, err := c.texts(ctx, f, schema.EndedLabelNames, schema.EndedLabelNamesPairs, r.limit())
		if err != nil {
			return nil, err
		}
		// Every series has a metric, which stands in its ID and not among its pairs.
		one := 1
		metrics, err := c.metricNames(ctx, f, &one)
		if len(metrics) > 0 {
			names = append(names, model.MetricNameLabel)
		}
		return names, err
	})
	if err != nil {
		return nil, err
	}
	return c.withRecent(ctx, since, r, ms, names, func(l labels.Labels, add func(string)) {
		l.Range(func(l labels.Label) { add(l.Name) })
	})
}

// strings remembers what find finds. The answer must not be changed.
func (c *Catalogue) strings(ctx context.Context, what string, r Range, ms []*labels.Matcher, find func(filter) ([]string, error)) ([]string, error) {
	from, to := Hour(r.Mint), Hour(r.Maxt)
	return remember(ctx, c, ofEnded, key(what, r.Tenant, from, to, r.Limit, ms), from, to, bytesOfStrings, func() ([]string, error) {
		f, err := c.filter(ctx, r, ms)
		if err != nil || f.nothing {
			return nil, err
		}
		return find(f)
	})
}

func bytesOfStrings(all []string) (n int64) {
	for _, s := range all {
		n += int64(len(s)) + 32
	}
	return n
}

// withRecent adds to what was found what series have that ended, or came back, while it was looked up or since it was.
func (c *Catalogue) withRecent(ctx context.Context, since Moment, r Range, ms []*labels.Matcher, found []string,
	of func(l labels.Labels, add func(string)),
) ([]string, error) {
	// Changes that the search has seen are listed after this.
	if _, err := c.follow(ctx, c.reads); err != nil {
		return nil, err
	}
	more := map[string]struct{}{}
	if !c.recent.each(since, r, ms, func(l labels.Labels) { of(l, func(s string) { more[s] = struct{}{} }) }) {
		return nil, ErrChanged
	}
	found = slices.Clone(found)
	for s := range more {
		found = append(found, s)
	}
	return found, nil
}

// metricNames returns the names of metrics that have a series which passes.
func (c *Catalogue) metricNames(ctx context.Context, f filter, limit *int) ([]string, error) {
	return c.texts(ctx, f, schema.EndedMetrics, schema.EndedMetricsPairs, limit)
}

// limit is what LIMIT takes: NULL for none.
func (r Range) limit() *int {
	if r.Limit <= 0 {
		return nil
	}
	return &r.Limit
}

// texts asks the query wide, or narrow if label pairs narrow the search.
func (c *Catalogue) texts(ctx context.Context, f filter, wide, narrow string, more ...any) ([]string, error) {
	query := wide
	if f.narrow {
		query = narrow
	}
	rows, err := c.reads.Query(ctx, query, slices.Concat(f.args, more)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// filter is matchers as PostgreSQL takes them, exactly: whatever matches is decided here, on the dictionary.
type filter struct {
	nothing bool  // no series can match
	narrow  bool  // the last two of args are not both NULL
	args    []any // metrics, hours of the range's end and start, number of pairs that a series must have, among which, among which none, all of which, one of which
}

// fewPairs is up to how many pairs are looked up in the index on pairs.
const fewPairs = 100

func (c *Catalogue) filter(ctx context.Context, r Range, ms []*labels.Matcher) (filter, error) {
	nothing := filter{nothing: true}
	metrics, err := c.matchMetrics(ctx, r.Tenant, ms)
	if err != nil || len(metrics) == 0 {
		return nothing, err
	}
	byName := map[string][]*labels.Matcher{}
	for _, m := range ms {
		if m.Name != model.MetricNameLabel {
			byName[m.Name] = append(byName[m.Name], m)
		}
	}
	must, mustNot, want := []int32{}, []int32{}, 0
	var all, few []int32
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
			switch {
			case len(ids) == 1:
				all = append(all, ids[0])
			case len(ids) <= fewPairs && (few == nil || len(ids) < len(few)):
				few = ids
			}
			must = append(must, ids...)
			want++
		}
	}
	if all != nil {
		few = nil
	}
	return filter{narrow: all != nil || few != nil, args: []any{metrics, Hour(r.Maxt), Hour(r.Mint), want, must, mustNot, all, few}}, nil
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
