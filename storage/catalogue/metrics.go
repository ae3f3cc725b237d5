package catalogue

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/schema"
)

// errRemoved means that metrics or pairs were removed while others were read.
var errRemoved = errors.New("the catalogue has changed meanwhile")

// ensureMetrics returns the metric of each of the series, creating those that are missing.
func (c *Catalogue) ensureMetrics(ctx context.Context, series []*Series) ([]int32, error) {
	ids := make([]int32, len(series))
	missing := map[metricKey]bool{}
	c.mu.RLock()
	for i, s := range series {
		key := metricKey{s.Tenant, s.Labels.Get(model.MetricNameLabel)}
		id, ok := c.metrics[key]
		if !ok {
			missing[key] = true
		}
		ids[i] = id
	}
	c.mu.RUnlock()
	if len(missing) == 0 {
		return ids, nil
	}
	var (
		tenants []int32
		names   []string
	)
	for k := range missing {
		tenants, names = append(tenants, k.tenant), append(names, k.name)
	}
	if _, err := c.pool.Exec(ctx, schema.MetricCreate, tenants, names); err != nil {
		return nil, err
	}
	if err := c.readMetrics(ctx, c.pool, false, schema.MetricIDs, tenants, names); err != nil {
		return nil, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	for i, s := range series {
		ids[i] = c.metrics[metricKey{s.Tenant, s.Labels.Get(model.MetricNameLabel)}]
	}
	return ids, nil
}

// MetricName returns the name of the metric of a series, or "" if it is not known here.
func (c *Catalogue) MetricName(id uint64) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.metric[int32(id>>seriesBits)].name
}

// readMetrics adds what the query finds to the metrics known; all says that these are all there are.
func (c *Catalogue) readMetrics(ctx context.Context, pool *pgxpool.Pool, all bool, query string, args ...any) error {
	c.mu.RLock()
	removal := c.removal
	c.mu.RUnlock()
	rows, err := pool.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	type metric struct {
		id  int32
		key metricKey
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m metric, err error) {
		err = row.Scan(&m.id, &m.key.tenant, &m.key.name)
		return m, err
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removal != removal {
		return errRemoved
	}
	for _, m := range found {
		c.metrics[m.key], c.metric[m.id] = m.id, m.key
	}
	c.allMetrics = c.allMetrics || all
	return nil
}

// refreshMetrics reads all metrics.
func (c *Catalogue) refreshMetrics(ctx context.Context, pool *pgxpool.Pool) error {
	for {
		if err := c.readMetrics(ctx, pool, true, schema.MetricsAll); !errors.Is(err, errRemoved) {
			return err
		}
	}
}

// matchMetrics returns the metrics of the tenant whose name matches, in order.
func (c *Catalogue) matchMetrics(ctx context.Context, tenant int32, ms []*labels.Matcher) ([]int64, error) {
	c.mu.RLock()
	for !c.allMetrics {
		c.mu.RUnlock()
		if err := c.refreshMetrics(ctx, c.reads); err != nil {
			return nil, err
		}
		c.mu.RLock()
	}
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
	slices.Sort(out)
	return out, nil
}
