package storage

import (
	"context"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/promkeep/promkeep/storage/head"
	"github.com/promkeep/promkeep/storage/samplelog"
	"github.com/promkeep/promkeep/storage/series"
)

// Key identifies one sender's spelling of a series' labels within this process: a hash of 128 bits under a secret seed.
type Key = head.Key

// Batch collects the samples of one request. Known or New position it on a series; what is added goes there. It must not be
// used concurrently. While it is being filled it holds off collection of series, so it must not wait for a client.
type Batch struct {
	db      *DB
	tenant  *head.Tenant
	filling bool

	last    *head.Spelling // of the series at hand, nil if it is not known; not used after filled
	guess   *head.Spelling // what comes after last, probably
	series  []*head.Series // nil where it is still to be resolved
	ids     []uint64       // of series
	unknown []unknown
	floats  []float
	sts     []int64 // start timestamps, as many as floats; empty if there are none
	hists   []hist
	payload payloadWriter
	item    samplelog.Item

	exemplars []exemplarOf
	announced []announced // metadata

	maxSeries int // of the tenant; 0 is no limit
	refused   []Refused
}

type unknown struct {
	at   int // in series
	key  Key
	lset labels.Labels
	hash uint64 // of lset, see head.Hash
	mint int64  // ms, its oldest sample
}

type float struct {
	series int32
	t      int64
	v      float64
}

type hist struct {
	series int32
	h      series.Histogram
}

var batches = sync.Pool{New: func() any { return new(Batch) }}

// NewBatch begins a batch of the tenant with the name; "" is DefaultTenant. A new tenant is created, or
// refused with a *TenantsError.
func (db *DB) NewBatch(ctx context.Context, tenant string) (*Batch, error) {
	if err := db.log.Err(); err != nil {
		return nil, logError(err)
	}
	if tenant == "" {
		tenant = DefaultTenant
	}
	id, err := db.tenant(ctx, tenant)
	if err != nil {
		return nil, err
	}
	b := batches.Get().(*Batch)
	b.db, b.tenant, b.filling = db, db.head.Tenant(id), true
	b.tenant.RLock()
	return b, nil
}

// Known positions the batch on the series with the key, if this process has seen it.
func (b *Batch) Known(key Key) bool {
	s := b.tenant.Known(key, b.last)
	b.last = s
	if s == nil {
		b.guess = nil
		return false
	}
	b.guess = b.tenant.Next(s)
	b.series = append(b.series, s.Series())
	b.ids = append(b.ids, s.ID())
	return true
}

// Guess returns the key of the series that the sender wrote after the series at hand the last time, and its extent, as Learn was
// told. The key is nil if nothing is known, and valid until the batch moves on.
func (b *Batch) Guess() (key *Key, extent uint32) {
	if b.guess == nil {
		return nil, 0
	}
	return b.guess.Key(), b.guess.Extent()
}

// Learn notes the extent of the series at hand as its sender writes it: a number of the caller's, above 0.
func (b *Batch) Learn(extent uint32) {
	if b.last != nil {
		b.last.SetExtent(extent)
	}
}

// Guessed positions the batch on the series that Guess returned, adds a sample without start timestamp, and returns the next guess. t is
// in ms.
func (b *Batch) Guessed(t int64, v float64) (key *Key, extent uint32) {
	s := b.guess
	b.tenant.Touch(s)
	b.last, b.guess = s, b.tenant.Next(s)
	b.floats = append(b.floats, float{int32(len(b.series)), t, v})
	if len(b.sts) > 0 {
		b.sts = append(b.sts, 0)
	}
	b.series = append(b.series, s.Series())
	b.ids = append(b.ids, s.ID())
	return b.Guess()
}

// New positions the batch on a series that is looked up, or created, at Commit. lset must be valid and sorted, with values
// of at most catalogue.MaxLabelValue bytes, and belongs to the batch from now on.
func (b *Batch) New(key Key, lset labels.Labels) {
	b.unknown = append(b.unknown, unknown{at: len(b.series), key: key, lset: lset, hash: head.Hash(lset), mint: 1<<63 - 1})
	b.series = append(b.series, nil)
	b.ids = append(b.ids, 0)
	b.last, b.guess = nil, nil
}

func (b *Batch) at(t int64) int32 {
	i := len(b.series) - 1
	if b.series[i] == nil {
		if u := &b.unknown[len(b.unknown)-1]; t < u.mint {
			u.mint = t
		}
	}
	return int32(i)
}

// Float adds a sample to the series at hand. t is in ms, st the start timestamp in ms or 0.
func (b *Batch) Float(t, st int64, v float64) {
	if st != 0 || len(b.sts) > 0 {
		for len(b.sts) < len(b.floats) {
			b.sts = append(b.sts, 0)
		}
		b.sts = append(b.sts, st)
	}
	b.floats = append(b.floats, float{b.at(t), t, v})
}

// Histogram adds a sample with an integer histogram, which is copied. The error says what is wrong with the histogram; it
// is not added then.
func (b *Batch) Histogram(t, st int64, h *histogram.Histogram) error {
	if !value.IsStaleNaN(h.Sum) {
		if err := h.Validate(); err != nil {
			return err
		}
	}
	kept := h.Copy()
	kept.CustomValues = slices.Clone(h.CustomValues) // which Copy shares
	b.hists = append(b.hists, hist{b.at(t), series.Histogram{T: t, ST: st, H: kept}})
	return nil
}

// FloatHistogram adds a sample with a float histogram, under the same conditions as Histogram.
func (b *Batch) FloatHistogram(t, st int64, h *histogram.FloatHistogram) error {
	if !value.IsStaleNaN(h.Sum) {
		if err := h.Validate(); err != nil {
			return err
		}
	}
	kept := h.Copy()
	kept.CustomValues = slices.Clone(h.CustomValues) // which Copy shares
	b.hists = append(b.hists, hist{b.at(t), series.Histogram{T: t, ST: st, FH: kept}})
	return nil
}

// Samples is how many samples were added.
func (b *Batch) Samples() int { return len(b.floats) + len(b.hists) }

// Commit returns when all samples are durable and visible to queries. After an error none was acknowledged; some may turn
// up nevertheless, and sending them again changes no answer. It waits for what is under way even when ctx ends.
func (b *Batch) Commit(ctx context.Context) error {
	b.filled()
	if len(b.announced) > 0 {
		alone := b.Samples()+len(b.exemplars) == 0
		if err := b.db.metadata.put(ctx, b.announced, alone); err != nil && alone {
			return err
		}
	}
	if b.Samples()+len(b.exemplars) == 0 {
		return nil
	}
	if b.db.head.UnflushedBytes() > b.db.cfg.HeadBytes {
		b.db.requestFlush()
		return overloaded("too many samples wait for a flush")
	}
	if len(b.unknown) > 0 {
		if err := b.db.resolver.resolve(ctx, b); err != nil {
			return err
		}
		if b.maxSeries > 0 {
			if b.dropRefused(); b.Samples()+len(b.exemplars) == 0 {
				return nil
			}
		}
	}
	if err := b.encode(); err != nil {
		return err
	}
	b.item = samplelog.Item{Blocks: b.payload.finish(), Apply: b.apply}
	return logError(b.db.log.Append(&b.item))
}

func (b *Batch) encode() error {
	b.payload.reset()
	for i, f := range b.floats {
		var st int64
		if len(b.sts) > 0 {
			st = b.sts[i]
		}
		b.payload.float(b.ids[f.series], f.t, st, f.v)
	}
	for _, h := range b.hists {
		if err := b.payload.histogram(b.ids[h.series], h.h); err != nil {
			return err
		}
	}
	for _, e := range b.exemplars {
		b.payload.exemplar(b.ids[e.series], e.t, e.value, e.labels)
	}
	return nil
}

// apply puts the committed samples into the head; in the order of commits.
func (b *Batch) apply() {
	var youngest int64
	const ahead = 32
	soon := b.series
	for i, f := range b.floats {
		if i%ahead == 0 {
			n := min(ahead, len(soon)) // nearly always the series of the next samples
			b.db.head.Soon(soon[:n])
			soon = soon[n:]
		}
		var st int64
		if len(b.sts) > 0 {
			st = b.sts[i]
		}
		b.db.head.Append(b.series[f.series], f.t, st, f.v)
		youngest = max(youngest, f.t)
	}
	for _, h := range b.hists {
		b.db.head.AppendHistogram(b.series[h.series], h.h)
		youngest = max(youngest, h.h.T)
	}
	b.db.seen(youngest)
	for _, e := range b.exemplars {
		b.series[e.series].Lived(e.t)
		b.db.exemplars.add(exemplarItem{b.series[e.series], e.t, e.value, e.labels})
	}
	b.db.metrics.samples.Add(float64(b.Samples()))
	b.tenant.Appended.Add(int64(b.Samples()))
}

// filled ends the time in which series are looked up.
func (b *Batch) filled() {
	if b.filling {
		b.last, b.guess = nil, nil
		b.tenant.RUnlock()
		b.filling = false
	}
}

// Release ends the use of the batch, committed or not.
func (b *Batch) Release() {
	b.filled()
	clear(b.series)
	clear(b.unknown)
	clear(b.hists)
	clear(b.announced)
	clear(b.exemplars)
	b.announced, b.exemplars = b.announced[:0], b.exemplars[:0]
	b.series, b.ids, b.unknown, b.floats, b.sts, b.hists = b.series[:0], b.ids[:0], b.unknown[:0], b.floats[:0], b.sts[:0], b.hists[:0]
	b.item = samplelog.Item{}
	b.maxSeries, b.refused = 0, nil
	b.db, b.tenant = nil, nil
	batches.Put(b)
}
