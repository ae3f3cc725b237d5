package head

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"

	"github.com/promkeep/promkeep/storage/codec"
	"github.com/promkeep/promkeep/storage/series"
)

// Key identifies one sender's spelling of a series' labels within this process: a hash of 128 bits under a secret seed.
type Key = [2]uint64

// Sample is a float sample; T in ms.
type Sample struct {
	T int64
	V float64
}

// Row is a packed row that was flushed and is kept as a cache. It is not changed once made.
type Row struct {
	Start, End int64 // ms, of the first and the last sample
	N          int32 // samples
	Version    int32 // of the flush
	Encoding   codec.Encoding
	Data       []byte
}

// Series is what the head holds of one series.
type Series struct {
	ID     uint64 // as in the catalogue
	Tenant int32
	Labels labels.Labels
	ref    promstorage.SeriesRef // place in the head's index

	spelling *Spelling // the first, nil if no writer has asked for it; guarded by the tenant's lock

	touched atomic.Uint32 // epoch in which a writer last asked for the series: keeps it from being collected under the writer
	started atomic.Int32  // hour since 1970 of its oldest sample, as the catalogue knows it

	mu     sync.Mutex // guards what follows
	epoch  uint32     // flush epoch of open
	open   []Sample   // accepted since the flush epoch began, in order of acceptance
	sealed []Sample   // waits for the flush that is under way: sorted, one sample per timestamp; not changed once made
	late   bool       // open is not in order of time
	extra  *extra     // what only few series have
	rows   []Row
	last   int64 // ms, youngest sample ever taken
}

// extra holds what most series never see: histograms and start timestamps.
type extra struct {
	st       map[int64]int64 // start timestamps of float samples in open and sealed, by T
	open     []series.Histogram
	sealed   []series.Histogram
	lateHist bool
}

// append takes a sample; the caller holds mu.
func (s *Series) append(t, st int64, v float64) {
	if st != 0 {
		x := s.ext()
		if x.st == nil {
			x.st = map[int64]int64{}
		}
		x.st[t] = st
	} else if s.extra != nil && s.extra.st != nil {
		delete(s.extra.st, t)
	}
	if n := len(s.open); n > 0 && t <= s.open[n-1].T {
		if t == s.open[n-1].T {
			s.open[n-1].V = v
			return
		}
		s.late = true
	}
	s.open = append(s.open, Sample{t, v})
	if t > s.last {
		s.last = t
	}
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

// seal moves open to sealed when open belongs to an earlier epoch; the caller holds mu. It returns the bytes of the samples
// that others with the same timestamp replaced.
func (s *Series) seal(epoch uint32) (replaced int64) {
	if s.epoch == epoch {
		return 0
	}
	s.epoch = epoch
	if len(s.open) > 0 {
		open := s.open
		if s.late || len(s.sealed) > 0 {
			// What a failed flush left behind goes first: open was accepted later.
			all := append(slices.Clone(s.sealed), open...)
			open = lastWins(all, func(x Sample) int64 { return x.T })
			replaced = int64(len(all)-len(open)) * sampleBytes
		}
		s.sealed, s.open, s.late = open, nil, false
	}
	if x := s.extra; x != nil && len(x.open) > 0 {
		open := x.open
		if x.lateHist || len(x.sealed) > 0 {
			all := append(slices.Clone(x.sealed), open...)
			replaced += bytesOf(all)
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
	for _, r := range s.rows {
		if r.Start <= maxt && r.End >= mint {
			v.Rows = append(v.Rows, r)
		}
	}
	if x := s.extra; x != nil && len(x.open)+len(x.sealed) > 0 {
		mint = math.MinInt64
	}
	v.Samples = collect(s.sealed, s.open, s.late, mint, maxt, func(x Sample) int64 { return x.T })
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
