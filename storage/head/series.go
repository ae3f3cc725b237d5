package head

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/storage/series"
)

// Key identifies one sender's spelling of a series' labels within this process: a hash of 128 bits under a secret seed.
type Key = [2]uint64

// Sample is a float sample; T in ms.
type Sample struct {
	T int64
	V float64
}

// Series is what the head holds of one series. The order of the fields matters: it is two cache lines, of which appending
// a sample needs the second alone.
type Series struct {
	ID     uint64 // as in the catalogue
	Labels labels.Labels
	tenant *Tenant

	last     int64         // ms, the youngest sample ever taken, those in open left out; guarded by mu
	spelling uint32        // the number of the first, from 1; 0 if no writer has asked for it; guarded by the tenant's lock
	_        uint32        // so that mu begins the second cache line
	ref      uint32        // place in the tenant's index
	hint     uint32        // where the next sample will be put, see blocks.hint; of whoever appends
	touched  atomic.Uint32 // epoch in which the series was last added or found: keeps it from being collected under a writer
	started  atomic.Int32  // hour since 1970 of its oldest sample, as the catalogue knows it

	mu     sync.Mutex // guards what follows
	rows   rows
	extra  *extra // what only few series have
	at     int64  // ms, of the last sample of open
	first  uint32 // first block of open: samples accepted since the flush epoch began, in order of acceptance; 0 if there are none
	tail   uint32 // last block of open
	sealed uint32 // first block of what waits for the flush that is under way: sorted, one sample per timestamp; not changed once made
	epoch  uint16 // flush epoch of open; counted through at every flush, so that a part of the number does
	fill   uint8  // samples in the last block of open
	late   bool   // open is not in order of time
}

// Tenant is the ID of the tenant.
func (s *Series) Tenant() int32 { return s.tenant.ID }

func (s *Series) blocks() *blocks { return &s.tenant.head.blocks }

// extra holds what most series never see: histograms and start timestamps.
type extra struct {
	st       map[int64]int64 // start timestamps of float samples in open and sealed, by T
	open     []series.Histogram
	sealed   []series.Histogram
	lateHist bool
}

// Lived says that the series may have had samples up to t, in ms, that are not in memory.
func (s *Series) Lived(t int64) {
	s.mu.Lock()
	s.last = max(s.last, t)
	s.mu.Unlock()
}

// append takes a sample; the caller holds mu.
func (s *Series) append(p *blocks, t, st int64, v float64) {
	if st != 0 {
		x := s.ext()
		if x.st == nil {
			x.st = map[int64]int64{}
		}
		x.st[t] = st
	} else if s.extra != nil && s.extra.st != nil {
		delete(s.extra.st, t)
	}
	if s.first != 0 && t <= s.at {
		if t == s.at {
			p.at(s.tail).setValue(uint32(s.fill)-1, v)
			return
		}
		s.late = true
	}
	s.put(p, t, v)
}

// put adds a sample to open.
func (s *Series) put(p *blocks, t int64, v float64) {
	delta := t - s.at
	if s.first == 0 || s.fill == blockSamples || delta != int64(int32(delta)) {
		s.more(p, t)
		delta = 0
	}
	p.at(s.tail).put(uint32(s.fill), int32(delta), v)
	s.fill++
	s.at = t
}

// more begins the next block of open, whose first sample is at t.
func (s *Series) more(p *blocks, t int64) {
	next := p.take(t)
	if s.first == 0 {
		s.first = next
	} else {
		b := p.at(s.tail)
		b.next, b.n = next, uint32(s.fill)
	}
	s.tail, s.fill = next, 0
}

// close ends open, and returns its first block.
func (s *Series) close(p *blocks) uint32 {
	first := s.first
	if first != 0 {
		p.at(s.tail).n = uint32(s.fill)
	}
	s.first, s.tail, s.fill, s.late = 0, 0, 0, false
	return first
}

func (s *Series) appendHistogram(h series.Histogram) {
	x := s.ext()
	if n := len(x.open); n > 0 && h.T <= x.open[n-1].T {
		x.lateHist = true
	}
	x.open = append(x.open, h)
	if h.T > s.last {
		s.last = h.T
	}
}

func (s *Series) ext() *extra {
	if s.extra == nil {
		s.extra = &extra{}
	}
	return s.extra
}

// seal moves open to sealed when open belongs to an earlier epoch; the caller holds mu. It returns the bytes of the histograms that
// others with the same timestamp replaced.
func (s *Series) seal(epoch uint32) (replaced int64) {
	if s.epoch == uint16(epoch) {
		return 0
	}
	s.epoch = uint16(epoch)
	if s.first != 0 {
		p, late := s.blocks(), s.late
		_, youngest := s.openBounds()
		s.last = max(s.last, youngest)
		open := s.close(p)
		if late || s.sealed != 0 {
			// What a failed flush left behind goes first: open was accepted later.
			all := p.read(p.read(nil, s.sealed), open)
			p.give(s.sealed)
			p.give(open)
			open = p.write(lastWins(all, func(x Sample) int64 { return x.T }))
		}
		s.sealed = open
	}
	if x := s.extra; x != nil && len(x.open) > 0 {
		open := x.open
		if x.lateHist || len(x.sealed) > 0 {
			all := append(slices.Clone(x.sealed), open...)
			replaced = bytesOf(all)
			open = lastWins(all, func(h series.Histogram) int64 { return h.T })
			replaced -= bytesOf(open)
		}
		x.sealed, x.open, x.lateHist = open, nil, false
	}
	return replaced
}

// lastWins sorts by time and keeps the last of several with one timestamp.
func lastWins[S any](in []S, at func(S) int64) []S {
	slices.SortStableFunc(in, func(a, b S) int {
		switch x, y := at(a), at(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	out := in[:0]
	for i := range in {
		if i+1 < len(in) && at(in[i+1]) == at(in[i]) {
			continue
		}
		out = append(out, in[i])
	}
	return out
}

// View is what the head held of a series at one moment.
type View struct {
	Rows       []Row // in no order; of two samples with one timestamp the one of the higher Version wins
	Samples    []Sample
	ST         map[int64]int64 // start timestamps of Samples by T, nil if none has one
	Histograms []series.Histogram
}

// View copies what lies in [mint, maxt], in ms. Samples and Histograms are in order, one per timestamp, and win over Rows.
// Of a series with histograms unflushed samples before mint come too: a counter reset is seen against the sample before.
func (s *Series) View(mint, maxt int64) View {
	s.mu.Lock()
	defer s.mu.Unlock()
	var v View
	if n := s.rows.count(mint, maxt); n > 0 {
		v.Rows = make([]Row, 0, n)
	}
	for rest := s.rows; len(rest) > 0; {
		var r Row
		if r, rest = rest.first(); r.Start <= maxt && r.End >= mint {
			v.Rows = append(v.Rows, r)
		}
	}
	if x := s.extra; x != nil && len(x.open)+len(x.sealed) > 0 {
		mint = math.MinInt64
	}
	v.Samples = s.samples(mint, maxt)
	if x := s.extra; x != nil {
		v.Histograms = collect(x.sealed, x.open, x.lateHist, mint, maxt, func(h series.Histogram) int64 { return h.T })
		if len(x.st) > 0 {
			v.ST = make(map[int64]int64, len(x.st))
			for t, st := range x.st {
				v.ST[t] = st
			}
		}
	}
	return v
}

func collect[S any](sealed, open []S, late bool, mint, maxt int64, at func(S) int64) []S {
	n := len(sealed) + len(open)
	if n == 0 {
		return nil
	}
	ordered := !late && (len(sealed) == 0 || len(open) == 0 || at(sealed[len(sealed)-1]) < at(open[0]))
	out := make([]S, 0, n)
	for _, part := range [2][]S{sealed, open} {
		for _, x := range part {
			if t := at(x); t >= mint && t <= maxt {
				out = append(out, x)
			}
		}
	}
	if !ordered {
		out = lastWins(out, at)
	}
	return out
}

// samples copies what is not flushed and lies in [mint, maxt], in ms; in order, one sample per timestamp. The caller holds mu.
func (s *Series) samples(mint, maxt int64) []Sample {
	p := s.blocks()
	n := p.len(s.sealed, 0, 0) + p.len(s.first, s.tail, uint32(s.fill))
	if n == 0 {
		return nil
	}
	out := p.read(make([]Sample, 0, n), s.sealed)
	ordered := !s.late && (len(out) == 0 || s.first == 0 || out[len(out)-1].T < p.at(s.first).base)
	out = p.readOpen(out, s.first, s.tail, uint32(s.fill))
	if out[0].T < mint || s.late || out[len(out)-1].T > maxt {
		out = slices.DeleteFunc(out, func(x Sample) bool { return x.T < mint || x.T > maxt })
	}
	if !ordered {
		out = lastWins(out, func(x Sample) int64 { return x.T })
	}
	return out
}
