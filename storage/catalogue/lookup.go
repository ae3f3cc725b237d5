package catalogue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/schema"
)

// raw is a series as it is stored.
type raw struct {
	id      int64
	started int32
	ended   *int32
	pairs   []int32
}

// Active calls fn for each series that has not ended, in no order. The first search finds the metrics known that it finds here.
func (c *Catalogue) Active(ctx context.Context, fn func(Series)) error {
	if _, err := c.follow(ctx, c.pool); err != nil {
		return err
	}
	return c.read(ctx, fn, schema.SeriesActive)
}

// ByID calls fn for each of the series that exists.
func (c *Catalogue) ByID(ctx context.Context, ids []uint64, fn func(Series)) error {
	return c.read(ctx, fn, schema.SeriesByID, schema.SignedIDs(ids))
}

func (c *Catalogue) read(ctx context.Context, fn func(Series), query string, args ...any) error {
	const tries = 3
	for try := 1; ; try++ {
		all, err := c.readRaw(ctx, c.pool, query, args...)
		if err != nil {
			return err
		}
		out, err := c.build(ctx, c.pool, all)
		// Between the statements series may have been retired, with their pairs.
		if errors.Is(err, errUnknown) && try < tries {
			continue
		}
		for _, s := range out {
			fn(s)
		}
		return err
	}
}

func (c *Catalogue) readRaw(ctx context.Context, pool *pgxpool.Pool, query string, args ...any) ([]raw, error) {
	rows, err := pool.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r raw, err error) {
		err = row.Scan(&r.id, &r.started, &r.ended, &r.pairs)
		return r, err
	})
}

// errUnknown means that a metric or pair is not there.
var errUnknown = errors.New("not in the catalogue")

// build turns stored series into labels.
func (c *Catalogue) build(ctx context.Context, pool *pgxpool.Pool, all []raw) ([]Series, error) {
	if len(all) == 0 {
		return nil, nil
	}
	wanted := map[int32]struct{}{}
	metrics := map[int32]metricKey{}
	c.mu.RLock()
	for _, r := range all {
		for _, id := range r.pairs {
			wanted[id] = struct{}{}
		}
		if id := int32(r.id >> seriesBits); metrics[id].name == "" {
			metrics[id] = c.metric[id]
		}
	}
	c.mu.RUnlock()
	for id, key := range metrics {
		if key.name != "" {
			continue
		}
		if err := c.refreshMetrics(ctx, pool); err != nil {
			return nil, err
		}
		c.mu.RLock()
		for id := range metrics {
			metrics[id] = c.metric[id]
		}
		c.mu.RUnlock()
		if metrics[id].tenant == 0 {
			return nil, fmt.Errorf("metric %d is %w", id, errUnknown)
		}
		break
	}
	pairs, err := c.resolve(ctx, pool, wanted)
	if err != nil {
		return nil, err
	}
	out := make([]Series, 0, len(all))
	var b labels.ScratchBuilder
	for _, r := range all {
		m := metrics[int32(r.id>>seriesBits)]
		if m.tenant == 0 {
			return nil, fmt.Errorf("the metric of series %d is %w", r.id, errUnknown)
		}
		b.Reset()
		b.Add(model.MetricNameLabel, m.name)
		for _, id := range r.pairs {
			l, ok := pairs[id]
			if !ok {
				return nil, fmt.Errorf("the label pair %d of series %d is %w", id, r.id, errUnknown)
			}
			b.Add(l.Name, l.Value)
		}
		b.Sort()
		s := Series{ID: uint64(r.id), Tenant: m.tenant, Labels: b.Labels(), Started: r.started, Ended: Unknown}
		if r.ended != nil {
			s.Ended = *r.ended
		}
		out = append(out, s)
	}
	return out, nil
}

// Select calls fn for each series of the tenant that matches and may have samples in [mint, maxt], in ms; in no order. beside, unless it is nil, returns series
// that match and exist, as all do that are in memory: the database is not asked for these, and fn may be called for them whatever the range.
func (c *Catalogue) Select(ctx context.Context, tenant int32, mint, maxt int64, beside func() []Series, fn func(Series) error, ms ...*labels.Matcher) error {
	from, to := Hour(mint), Hour(maxt)
	found, err := remember(ctx, c, ofAll, seriesKey(tenant, from, to, ms), from, to, bytesOfSeries,
		func() ([]Series, error) {
			var known []Series
			if beside != nil {
				known = beside()
			}
			more, err := c.search(ctx, tenant, from, to, known, ms)
			// With these it is what the search would find without knowing any, so it serves when some of them have left memory, too.
			return append(known, more...), err
		})
	if err != nil {
		return err
	}
	for _, s := range found {
		if err := fn(s); err != nil {
			return err
		}
	}
	return nil
}

// Recall returns what an earlier Select found for the same hours, without asking the database. It counts only if holds, called after that, returns true for a
// version of the catalogue in the database at which the caller looks. holds is nil if nothing is remembered.
func (c *Catalogue) Recall(tenant int32, mint, maxt int64, ms ...*labels.Matcher) (found []Series, holds func(version int64) bool) {
	r := c.results.peek(seriesKey(tenant, Hour(mint), Hour(maxt), ms))
	if r == nil {
		return nil, nil
	}
	return r.value.([]Series), func(version int64) bool { return c.results.holds(r, version) }
}

func seriesKey(tenant, from, to int32, ms []*labels.Matcher) string {
	return key("series", tenant, from, to, 0, ms)
}

// key says all that a result depends on but the time.
func key(what string, tenant, from, to int32, limit int, ms []*labels.Matcher) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %d %d %d", what, tenant, from, to, limit)
	// The order of matchers makes no difference.
	texts := make([]string, len(ms))
	for i, m := range ms {
		texts[i] = m.String()
	}
	slices.Sort(texts)
	for _, t := range texts {
		b.WriteByte(' ')
		b.WriteString(t)
	}
	return b.String()
}

func bytesOfSeries(all []Series) (n int64) {
	n = int64(cap(all)) * 48
	for _, s := range all {
		n += int64(s.Labels.ByteSize()) + 16
	}
	return n
}

// search returns the series that match and are none of those known.
func (c *Catalogue) search(ctx context.Context, tenant, from, to int32, known []Series, ms []*labels.Matcher) ([]Series, error) {
	metrics, err := c.matchMetrics(ctx, tenant, ms)
	if err != nil || len(metrics) == 0 {
		return nil, err
	}
	all, some, err := c.matchPairs(ctx, ms)
	if err != nil || (some != nil && len(some) == 0) {
		return nil, err
	}
	ids := make([]int64, len(known))
	for i, s := range known {
		ids[i] = int64(s.ID)
	}
	slices.Sort(ids)
	query, args := schema.SeriesSelect, []any{metrics, to, from, ids}
	if all != nil || some != nil {
		query, args = schema.SeriesSelectPairs, append(args, all, some)
		if len(metrics) == 1 {
			query, args[0] = schema.SeriesSelectMetricPairs, metrics[0]
		}
	}
	found, err := c.readRaw(ctx, c.reads, query, args...)
	if err != nil {
		return nil, err
	}
	series, err := c.build(ctx, c.reads, found)
	return slices.DeleteFunc(series, func(s Series) bool { return s.Tenant != tenant || !matches(s.Labels, ms) }), err
}

func matches(l labels.Labels, ms []*labels.Matcher) bool {
	return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) })
}

// matchPairs returns label pairs of which a matching series must have all, and others of which it must have one: those of the
// most selective matcher that can be put so. They are nil if there are none; if no series can match, some is empty.
func (c *Catalogue) matchPairs(ctx context.Context, ms []*labels.Matcher) (all, some []int32, err error) {
	for _, m := range ms {
		if m.Name == model.MetricNameLabel || m.Matches("") {
			continue
		}
		var values []string
		switch {
		case m.Type == labels.MatchEqual:
			values = []string{m.Value}
		case m.Type == labels.MatchRegexp && len(m.SetMatches()) > 0:
			values = m.SetMatches()
		default:
			continue
		}
		rows, err := c.reads.Query(ctx, schema.LabelValuesIn, m.Name, values)
		if err != nil {
			return nil, nil, err
		}
		got := []int32{}
		var id int32
		var value string
		if _, err := pgx.ForEachRow(rows, []any{&id, &value}, func() error { got = append(got, id); return nil }); err != nil {
			return nil, nil, err
		}
		switch {
		case len(got) == 0:
			return nil, got, nil
		case len(got) == 1:
			all = append(all, got[0])
		case some == nil || len(got) < len(some):
			some = got
		}
	}
	if all != nil {
		some = nil // what is left is matched here
	}
	return all, some, nil
}
