package storage

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/head"
)

// maxUnresolved bounds the series that wait for the catalogue.
const maxUnresolved = 500_000

// resolver looks up and creates series for batches, many at once: while one round is under way the next gathers.
type resolver struct {
	db *DB

	// lifecycle is held while series come to life and while they end, so that a series which is in memory is never marked
	// as ended in the catalogue.
	lifecycle sync.Mutex

	mu      sync.Mutex // guards what follows
	waiting []*resolving
	queued  int // series in waiting
	running bool
	closed  bool
	idle    sync.WaitGroup
}

type resolving struct {
	tenant  *head.Tenant
	limit   int // of active series of the tenant; 0 is none
	unknown []unknown
	series  []*head.Series // resolved, one for each of unknown; nil beyond the limit
	done    chan error
}

func newResolver(db *DB) *resolver { return &resolver{db: db} }

// resolve fills in the series of a batch that it did not know. When ctx ends first the round goes on without the batch.
func (r *resolver) resolve(ctx context.Context, b *Batch) error {
	req := &resolving{tenant: b.tenant, limit: b.maxSeries, unknown: append([]unknown(nil), b.unknown...), done: make(chan error, 1)}
	r.mu.Lock()
	switch {
	case r.closed:
		r.mu.Unlock()
		return unavailable(errors.New("promkeep is stopping"))
	case r.queued > 0 && r.queued+len(req.unknown) > maxUnresolved:
		r.mu.Unlock()
		return overloaded("too many new series wait for the catalogue")
	}
	r.waiting = append(r.waiting, req)
	r.queued += len(req.unknown)
	if !r.running {
		r.running = true
		r.idle.Add(1)
		go r.run()
	}
	r.mu.Unlock()
	select {
	case err := <-req.done:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
	for i, u := range req.unknown {
		if s := req.series[i]; s != nil {
			b.series[u.at], b.ids[u.at] = s, s.ID
		}
	}
	return nil
}

// run does rounds until nothing waits.
func (r *resolver) run() {
	defer r.idle.Done()
	for {
		r.mu.Lock()
		round := r.waiting
		r.waiting, r.queued = nil, 0
		if len(round) == 0 {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := r.round(ctx, round)
		for _, req := range round {
			if errors.Is(err, catalogue.ErrUnstorable) && len(round) > 1 {
				// Only the requests are refused that have such series.
				req.done <- r.round(ctx, []*resolving{req})
				continue
			}
			req.done <- err
		}
		cancel()
	}
}

func (r *resolver) round(ctx context.Context, round []*resolving) error {
	r.lifecycle.Lock()
	defer r.lifecycle.Unlock()
	began := time.Now()
	var missing []*catalogue.Series
	type place struct {
		req *resolving
		i   int
		to  *catalogue.Series
	}
	var places []place
	type identity struct {
		tenant int32
		hash   uint64
	}
	seen := map[identity][]*catalogue.Series{}
	active := map[int32]int{} // by tenant with a limit, with those of this round; only rounds add series
	for _, req := range round {
		req.series = make([]*head.Series, len(req.unknown))
		for i, u := range req.unknown {
			if s := req.tenant.Find(u.key, u.lset); s != nil {
				req.series[i] = s
				continue
			}
			id := identity{req.tenant.ID, head.Hash(u.lset)}
			var c *catalogue.Series
			for _, other := range seen[id] {
				if labels.Equal(other.Labels, u.lset) {
					c = other
				}
			}
			if c == nil {
				if req.limit > 0 {
					if _, ok := active[req.tenant.ID]; !ok {
						active[req.tenant.ID] = req.tenant.Len()
					}
					if active[req.tenant.ID] >= req.limit {
						continue
					}
					active[req.tenant.ID]++
				}
				c = &catalogue.Series{Tenant: req.tenant.ID, Labels: u.lset, Started: catalogue.Hour(u.mint)}
				seen[id] = append(seen[id], c)
				missing = append(missing, c)
			}
			c.Started = min(c.Started, catalogue.Hour(u.mint))
			places = append(places, place{req, i, c})
		}
	}
	if len(missing) > 0 {
		if err := r.db.catalogue.Create(ctx, missing); err != nil {
			if errors.Is(err, catalogue.ErrUnstorable) {
				return err
			}
			return unavailable(err)
		}
		r.db.metrics.seriesCreated.Add(float64(len(missing)))
		r.db.metrics.createSeconds.Observe(time.Since(began).Seconds())
	}
	for _, p := range places {
		s := p.req.tenant.Add(p.req.unknown[p.i].key, p.to.ID, p.to.Labels, p.to.Started)
		if p.to.Ended != catalogue.Unknown {
			s.Lived(catalogue.HourEnd(p.to.Ended))
		}
		p.req.series[p.i] = s
	}
	return nil
}

func (r *resolver) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.idle.Wait()
}
