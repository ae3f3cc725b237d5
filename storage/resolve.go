package storage

import (
	"context"
	"errors"
	"slices"
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
	entries []head.Entry // one for each of unknown; the series is nil beyond the limit
	done    chan error
}

func newResolver(db *DB) *resolver { return &resolver{db: db} }

// resolve fills in the series of a batch that it did not know. When ctx ends first the round goes on without the batch.
func (r *resolver) resolve(ctx context.Context, b *Batch) error {
	// The batch may be released, and its memory used again, while the round goes on.
	req := &resolving{tenant: b.tenant, limit: b.maxSeries, unknown: slices.Clone(b.unknown), done: make(chan error, 1)}
	req.entries = make([]head.Entry, len(req.unknown))
	for i, u := range req.unknown {
		req.entries[i] = head.Entry{Key: u.key, Labels: u.lset, Hash: u.hash}
	}
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
		if s := req.entries[i].Series; s != nil {
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
	queued := 0
	for _, req := range round {
		queued += len(req.unknown)
		req.tenant.FindAll(req.entries)
	}
	created := make([]catalogue.Series, 0, queued) // missing points into it
	missing := make([]*catalogue.Series, 0, queued)
	places := make([][]*catalogue.Series, len(round)) // of the requests: what their entries will be, nil for what is known or beyond the limit
	type identity struct {
		tenant int32
		hash   uint64
	}
	first := make(map[identity]int32, queued) // the first of missing that is so, from 1
	next := make([]int32, 0, queued)          // for each of missing, another one that has the same hash
	active := map[int32]int{}                 // by tenant with a limit, with those of this round; only rounds add series
	for k, req := range round {
		places[k] = make([]*catalogue.Series, len(req.entries))
		for i := range req.entries {
			e, mint := &req.entries[i], req.unknown[i].mint
			if e.Series != nil {
				continue
			}
			id := identity{req.tenant.ID, e.Hash}
			same := first[id]
			var c *catalogue.Series
			for n := same; n > 0 && c == nil; n = next[n-1] {
				if labels.Equal(missing[n-1].Labels, e.Labels) {
					c = missing[n-1]
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
				created = append(created, catalogue.Series{Tenant: req.tenant.ID, Labels: e.Labels, Started: catalogue.Hour(mint)})
				c = &created[len(created)-1]
				missing = append(missing, c)
				next = append(next, same)
				first[id] = int32(len(missing))
			}
			c.Started = min(c.Started, catalogue.Hour(mint))
			places[k][i] = c
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
	for k, req := range round {
		add := req.entries
		for i, c := range places[k] {
			if c != nil {
				add[i].ID, add[i].Labels, add[i].Started = c.ID, c.Labels, c.Started
			}
		}
		// What is known, or beyond the limit, is not added: runs of what is lie between.
		for i := 0; i < len(add); {
			n := i
			for n < len(add) && places[k][n] != nil {
				n++
			}
			req.tenant.AddAll(add[i:n])
			for ; i < n; i++ {
				if ended := places[k][i].Ended; ended != catalogue.Unknown {
					add[i].Series.Lived(catalogue.HourEnd(ended))
				}
			}
			for i < len(add) && places[k][i] == nil {
				i++
			}
		}
	}
	return nil
}

func (r *resolver) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.idle.Wait()
}
