package catalogue

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/schema"
)

// raw is a series as it is stored.
type raw struct {
	id      int64
	started int32
	pairs   []int32
}

// Active calls fn for each series that has not ended, in no order.
func (c *Catalogue) Active(ctx context.Context, fn func(Series)) error {
	return c.read(ctx, fn, schema.SeriesActive)
}

// ByID calls fn for each of the series that exists.
func (c *Catalogue) ByID(ctx context.Context, ids []uint64, fn func(Series)) error {
	return c.read(ctx, fn, schema.SeriesByID, signed(ids))
}

func (c *Catalogue) read(ctx context.Context, fn func(Series), query string, args ...any) error {
	rows, err := c.reads.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r raw, err error) {
		err = row.Scan(&r.id, &r.started, &r.pairs)
		return r, err
	})
	if err != nil {
		return err
	}
	return c.build(ctx, all, func(s Series) error { fn(s); return nil })
}

// build turns stored series into labels.
func (c *Catalogue) build(ctx context.Context, all []raw, fn func(Series) error) error {
	if len(all) == 0 {
		return nil
	}
	wanted := map[int32]struct{}{}
	unknown := false
	c.mu.RLock()
	for _, r := range all {
		for _, id := range r.pairs {
			wanted[id] = struct{}{}
		}
		if _, ok := c.metric[int32(r.id>>seriesBits)]; !ok {
			unknown = true
		}
	}
	c.mu.RUnlock()
	if unknown {
		if err := c.refreshMetrics(ctx); err != nil {
			return err
		}
	}
	pairs, err := c.resolve(ctx, wanted)
	if err != nil {
		return err
	}
	var b labels.ScratchBuilder
	for _, r := range all {
		c.mu.RLock()
		m, ok := c.metric[int32(r.id>>seriesBits)]
		c.mu.RUnlock()
		if !ok {
			return fmt.Errorf("series %d has no metric in the catalogue", r.id)
		}
		b.Reset()
		b.Add(model.MetricNameLabel, m.name)
		for _, id := range r.pairs {
			l, ok := pairs[id]
			if !ok {
				return fmt.Errorf("series %d has an unknown label pair %d", r.id, id)
			}
			b.Add(l.Name, l.Value)
		}
		b.Sort()
		if err := fn(Series{ID: uint64(r.id), Tenant: m.tenant, Labels: b.Labels(), Started: r.started}); err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalogue) refreshMetrics(ctx context.Context) error {
	return c.readMetrics(ctx, c.reads, schema.MetricsAll, 0)
}

// Select calls fn for each series of the tenant that matches and may have samples in [mint, maxt], in ms; in no order.
func (c *Catalogue) Select(ctx context.Context, tenant int32, mint, maxt int64, fn func(Series) error, ms ...*labels.Matcher) error {
	metrics, err := c.matchMetrics(ctx, tenant, ms)
	if err != nil || len(metrics) == 0 {
		return err
	}
	pairs, ok, err := c.matchPairs(ctx, ms)
	if err != nil || (ok && len(pairs) == 0) {
		return err
	}
	query, args := schema.SeriesSelect, []any{metrics, Hour(maxt), Hour(mint)}
	if ok {
		query, args = schema.SeriesSelectMetricPairs, append(args, pairs)
		if len(metrics) > 64 {
			query, args = schema.SeriesSelectPairs, []any{pairs, Hour(maxt), Hour(mint)}
		}
	}
	rows, err := c.reads.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r raw, err error) {
		err = row.Scan(&r.id, &r.pairs)
		return r, err
	})
	if err != nil {
		return err
	}
	return c.build(ctx, all, func(s Series) error {
		if s.Tenant != tenant {
			return nil
		}
		for _, m := range ms {
			if !m.Matches(s.Labels.Get(m.Name)) {
				return nil
			}
		}
		return fn(s)
	})
}

// matchMetrics returns the metrics of the tenant whose name matches.
func (c *Catalogue) matchMetrics(ctx context.Context, tenant int32, ms []*labels.Matcher) ([]int64, error) {
	if err := c.refreshNewMetrics(ctx); err != nil {
		return nil, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, m := range ms {
		if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
			id, ok := c.metrics[metricKey{tenant, m.Value}]
			if !ok || slices.ContainsFunc(ms, func(o *labels.Matcher) bool { return o.Name == m.Name && !o.Matches(m.Value) }) {
				return nil, nil
			}
			return []int64{int64(id)}, nil
		}
	}
	var out []int64
next:
	for id, key := range c.metric {
		if key.tenant != tenant {
			continue
		}
		for _, m := range ms {
			if m.Name == model.MetricNameLabel && !m.Matches(key.name) {
				continue next
			}
		}
		out = append(out, int64(id))
	}
	return out, nil
}

// refreshNewMetrics reads the metrics that came since the last call.
func (c *Catalogue) refreshNewMetrics(ctx context.Context) error {
	c.mu.RLock()
	newest := c.newest
	c.mu.RUnlock()
	if err := c.readMetrics(ctx, c.reads, schema.MetricsAll, newest); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// IDs may be committed out of order by several adapters, so the last few are read again.
	const slack = 1000
	for id := range c.metric {
		if id-slack > c.newest {
			c.newest = id - slack
		}
	}
	return nil
}

// matchPairs returns the label pairs of which a matching series must have one, for the most selective matcher that can be
// put so; ok is false if there is none.
func (c *Catalogue) matchPairs(ctx context.Context, ms []*labels.Matcher) (ids []int32, ok bool, err error) {
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
			return nil, false, err
		}
		var got []int32
		var id int32
		var value string
		if _, err := pgx.ForEachRow(rows, []any{&id, &value}, func() error { got = append(got, id); return nil }); err != nil {
			return nil, false, err
		}
		if len(got) == 0 {
			return nil, true, nil
		}
		// Any one of the matchers narrows the search; which is best only the statistics of PostgreSQL know. Equality on few
		// pairs is preferred.
		if !ok || len(got) < len(ids) {
			ids, ok = got, true
		}
	}
	return ids, ok, nil
}
