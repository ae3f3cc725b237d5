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

// dropRefused takes out the samples of series that were not resolved.
func (b *Batch) dropRefused() {
	at := make(map[int32]int, 16) // in refused, by place in series
	for _, u := range b.unknown {
		if b.series[u.at] == nil {
			at[int32(u.at)] = len(b.refused)
			b.refused = append(b.refused, Refused{Labels: u.lset})
		}
	}
	if len(at) == 0 {
		return
	}
	n := 0
	for i, f := range b.floats {
		if r, ok := at[f.series]; ok {
			b.refused[r].Floats++
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
		if r, ok := at[h.series]; ok {
			b.refused[r].Histograms++
			continue
		}
		b.hists[n] = h
		n++
	}
	clear(b.hists[n:])
	b.hists = b.hists[:n]
	n = 0
	for _, e := range b.exemplars {
		if r, ok := at[e.series]; ok {
			b.refused[r].Exemplars++
			continue
		}
		b.exemplars[n] = e
		n++
	}
	clear(b.exemplars[n:])
	b.exemplars = b.exemplars[:n]
}
