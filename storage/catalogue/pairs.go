package catalogue

import (
	"context"
	"maps"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/schema"
)

// maxPairs bounds each of the two generations of the cache of label pairs.
const maxPairs = 1 << 19

// pairCache maps label pairs to IDs and back. It has two generations: what was not used while the young one filled up is
// dropped with the old one.
type pairCache struct {
	young, old pairMaps
}

type pairMaps struct {
	ids   map[labels.Label]int32
	pairs map[int32]labels.Label
}

func (p *pairCache) put(id int32, l labels.Label) {
	if p.young.ids == nil || len(p.young.ids) >= maxPairs {
		p.old = p.young
		p.young = pairMaps{ids: map[labels.Label]int32{}, pairs: map[int32]labels.Label{}}
	}
	p.young.ids[l] = id
	p.young.pairs[id] = l
}

func (p *pairCache) remove(id int32) {
	for _, m := range []pairMaps{p.young, p.old} {
		if l, ok := m.pairs[id]; ok {
			delete(m.pairs, id)
			delete(m.ids, l)
		}
	}
}

func (p *pairCache) id(l labels.Label) (int32, bool) {
	id, ok := p.young.ids[l]
	if !ok {
		id, ok = p.old.ids[l]
	}
	return id, ok
}

func (p *pairCache) pair(id int32) (labels.Label, bool) {
	l, ok := p.young.pairs[id]
	if !ok {
		l, ok = p.old.pairs[id]
	}
	return l, ok
}

// ensurePairs returns the IDs of all label pairs of the sets but names of metrics, creating those that are missing.
func (c *Catalogue) ensurePairs(ctx context.Context, sets []labels.Labels) (map[labels.Label]int32, error) {
	found := map[labels.Label]int32{}
	missing := map[labels.Label]struct{}{}
	c.mu.RLock()
	for _, lset := range sets {
		lset.Range(func(l labels.Label) {
			if l.Name == model.MetricNameLabel {
				return
			}
			if _, ok := found[l]; ok {
				return
			}
			if id, ok := c.pairs.id(l); ok {
				found[l] = id
			} else {
				missing[l] = struct{}{}
			}
		})
	}
	c.mu.RUnlock()
	if len(missing) == 0 {
		return found, nil
	}
	names, values := make([]string, 0, len(missing)), make([]string, 0, len(missing))
	for l := range missing {
		names, values = append(names, l.Name), append(values, l.Value)
	}
	// Rows that another adapter is inserting are waited for, so the second statement sees them all.
	if _, err := c.pool.Exec(ctx, schema.LabelCreate, names, values); err != nil {
		return nil, err
	}
	read, err := c.readPairs(ctx, c.pool, schema.LabelIDs, names, values)
	for id, l := range read {
		found[l] = id
	}
	return found, err
}

// resolve returns the label pairs with the IDs.
func (c *Catalogue) resolve(ctx context.Context, wanted map[int32]struct{}) (map[int32]labels.Label, error) {
	found := make(map[int32]labels.Label, len(wanted))
	var missing []int32
	c.mu.RLock()
	for id := range wanted {
		if l, ok := c.pairs.pair(id); ok {
			found[id] = l
		} else {
			missing = append(missing, id)
		}
	}
	c.mu.RUnlock()
	if len(missing) == 0 {
		return found, nil
	}
	read, err := c.readPairs(ctx, c.reads, schema.LabelPairs, missing)
	maps.Copy(found, read)
	return found, err
}

// readPairs returns the pairs that the query finds, and keeps them in the cache.
func (c *Catalogue) readPairs(ctx context.Context, pool *pgxpool.Pool, query string, args ...any) (map[int32]labels.Label, error) {
	c.mu.RLock()
	removal := c.removal
	c.mu.RUnlock()
	rows, err := pool.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	var (
		id  int32
		l   labels.Label
		out = map[int32]labels.Label{}
	)
	if _, err := pgx.ForEachRow(rows, []any{&id, &l.Name, &l.Value}, func() error { out[id] = l; return nil }); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removal == removal {
		for id, l := range out {
			c.pairs.put(id, l)
		}
	}
	return out, nil
}
