package storage

import (
	"github.com/prometheus/prometheus/model/labels"
)

// Refused is a series that a batch did not create, since its tenant has as many active series as LimitSeries allows, with the
// number of samples that were left out with it.
type Refused struct {
	Labels                        labels.Labels
	Floats, Histograms, Exemplars int
}

// LimitSeries lets Commit create series only while the tenant has fewer than max active ones; 0 is no limit. Active series are those
// in memory: with a sample not yet flushed, or in the cache window. Samples of series beyond the limit are left out, the others
// are stored. It is called before Commit.
func (b *Batch) LimitSeries(max int) { b.maxSeries = max }

// Refused returns, after Commit, the series that LimitSeries kept out.
func (b *Batch) Refused() []Refused { return b.refused }

// dropRefused takes out the series that were not resolved, and their samples.
func (b *Batch) dropRefused() {
	refused := 0
	for _, u := range b.unknown {
		if b.series[u.at] == nil {
			refused++
		}
	}
	if refused == 0 {
		return
	}
	b.refused = make([]Refused, 0, refused)
	to := make([]int32, len(b.series)) // the new place; of a refused one -1 - its place in b.refused
	for _, u := range b.unknown {
		if b.series[u.at] == nil {
			b.refused = append(b.refused, Refused{Labels: u.lset})
			to[u.at] = -int32(len(b.refused))
		}
	}
	n := 0
	for i, s := range b.series {
		if s != nil {
			to[i] = int32(n)
			b.series[n], b.ids[n] = s, b.ids[i]
			n++
		}
	}
	clear(b.series[n:])
	b.series, b.ids = b.series[:n], b.ids[:n]

	n = 0
	for i, f := range b.floats {
		if f.series = to[f.series]; f.series < 0 {
			b.refused[-1-f.series].Floats++
			continue
		}
		if len(b.sts) > 0 {
			b.sts[n] = b.sts[i]
		}
		b.floats[n] = f
		n++
	}
	b.floats = b.floats[:n]
	if len(b.sts) > 0 {
		b.sts = b.sts[:n]
	}
	n = 0
	for _, h := range b.hists {
		if h.series = to[h.series]; h.series < 0 {
			b.refused[-1-h.series].Histograms++
			continue
		}
		b.hists[n] = h
		n++
	}
	clear(b.hists[n:])
	b.hists = b.hists[:n]
	n = 0
	for _, e := range b.exemplars {
		if e.series = to[e.series]; e.series < 0 {
			b.refused[-1-e.series].Exemplars++
			continue
		}
		b.exemplars[n] = e
		n++
	}
	clear(b.exemplars[n:])
	b.exemplars = b.exemplars[:n]
}
