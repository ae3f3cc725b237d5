package series

import (
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
)

// Rehint sets the counter-reset hints of the histograms to what Prometheus' TSDB would say of the set: a hint speaks of the
// sample before, and after runs have been merged that may be another one. Gauges stay; "no reset" is said where the histogram
// follows one of its kind without a reset; all else is unknown, which makes PromQL look for itself.
func (s *Set) Rehint() {
	f := 0 // first float that is not before the histogram at hand
	var before *histogram.FloatHistogram
	for i := range s.Histograms {
		h := &s.Histograms[i]
		from := f
		for f < len(s.T) && s.T[f] < h.T {
			f++
		}
		now := float(h)
		neighbours := i > 0 && f == from && (h.H == nil) == (s.Histograms[i-1].H == nil)
		hint := histogram.UnknownCounterReset
		switch {
		case now.CounterResetHint == histogram.GaugeType:
			hint = histogram.GaugeType
		case neighbours && now.CounterResetHint != histogram.CounterReset && follows(now, before):
			hint = histogram.NotCounterReset
		}
		h.hint(hint)
		before = now
	}
}

// float returns a histogram with float counts, which may share memory with h.
func float(h *Histogram) *histogram.FloatHistogram {
	if h.FH != nil {
		return h.FH
	}
	return h.H.ToFloat(nil)
}

// follows tells whether the counter went on from before to now.
func follows(now, before *histogram.FloatHistogram) bool {
	if before.CounterResetHint == histogram.GaugeType || value.IsStaleNaN(now.Sum) || value.IsStaleNaN(before.Sum) {
		return false
	}
	plain := *now
	plain.CounterResetHint = histogram.UnknownCounterReset
	earlier := *before
	earlier.CounterResetHint = histogram.UnknownCounterReset
	return !plain.DetectReset(&earlier)
}

// hint changes the hint on a copy: histograms are shared.
func (h *Histogram) hint(hint histogram.CounterResetHint) {
	switch {
	case h.H != nil && h.H.CounterResetHint != hint:
		c := *h.H
		c.CounterResetHint = hint
		h.H = &c
	case h.FH != nil && h.FH.CounterResetHint != hint:
		c := *h.FH
		c.CounterResetHint = hint
		h.FH = &c
	}
}
