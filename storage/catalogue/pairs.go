package catalogue

import (
	"context"
	"maps"
	"slices"

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

// ensurePairs returns for each set the IDs of its label pairs but the name of the metric, creating those that are missing. A set is new that has a pair
// which was created here, unless another process has changed the catalogue since the version asOf.
func (c *Catalogue) ensurePairs(ctx context.Context, sets []labels.Labels) (out []wantedSet, asOf int64, err error) {
	out = make([]wantedSet, len(sets))
	missing := map[labels.Label]int32{}
	// Sets of a target that come one after another have most pairs in common, so those of the set before are compared before any is looked up.
	var before, now []labels.Label
	same := func(at int, l labels.Label) bool { return at < len(before) && before[at] == l }
	c.mu.RLock()
	for i, lset := range sets {
		ids := make([]int32, 0, max(8, len(before)))
		now = now[:0]
		lset.Range(func(l labels.Label) {
			if l.Name == model.MetricNameLabel {
				return
			}
			at := len(now)
			now = append(now, l)
			if same(at, l) && out[i-1].pairs[at] > 0 {
				ids = append(ids, out[i-1].pairs[at])
				return
			}
			id, ok := c.pairs.id(l)
			if !ok {
				missing[l] = 0
			}
			ids = append(ids, id)
		})
		out[i].pairs = ids
		before, now = now, before
	}
	c.mu.RUnlock()
	if len(missing) == 0 {
		return out, 0, nil
	}
	state, err := c.state(ctx, c.pool)
	if err != nil {
		return nil, 0, err
	}
	names, values := split(missing)
	// Rows that another adapter is inserting are waited for, so the second statement sees all that this one did not make.
	made, err := c.readPairs(ctx, c.pool, schema.LabelCreate, names, values)
	if err != nil {
		return nil, 0, err
	}
	for id, l := range made {
		missing[l] = id
	}
	if len(made) < len(missing) {
		rest := maps.Clone(missing)
		maps.DeleteFunc(rest, func(_ labels.Label, id int32) bool { return id != 0 })
		names, values := split(rest)
		read, err := c.readPairs(ctx, c.pool, schema.LabelIDs, names, values)
		if err != nil {
			return nil, 0, err
		}
		for id, l := range read {
			missing[l] = id
		}
	}
	for i, lset := range sets {
		set := &out[i]
		if !slices.Contains(set.pairs, 0) {
			continue
		}
		at := 0
		lset.Range(func(l labels.Label) {
			if l.Name == model.MetricNameLabel {
				return
			}
			if set.pairs[at] == 0 {
				set.pairs[at] = missing[l]
				if _, ok := made[missing[l]]; ok {
					set.isNew = true
				}
			}
			at++
		})
	}
	return out, state.version, nil
}

func split(pairs map[labels.Label]int32) (names, values []string) {
	names, values = make([]string, 0, len(pairs)), make([]string, 0, len(pairs))
	for l := range pairs {
		names, values = append(names, l.Name), append(values, l.Value)
	}
	return names, values
}

// resolve returns the label pairs with the IDs.
func (c *Catalogue) resolve(ctx context.Context, pool *pgxpool.Pool, wanted map[int32]struct{}) (map[int32]labels.Label, error) {
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
	read, err := c.readPairs(ctx, pool, schema.LabelPairs, missing)
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
