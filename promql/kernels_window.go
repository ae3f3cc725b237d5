package promql

import (
	"math"

	"github.com/prometheus/prometheus/util/kahansum"
)

// window is the samples lo to hi (exclusive) of a series, at least one and no stale marker, in the range (begin, end] (ms).
type window struct {
	t          []int64
	v          []float64
	resets     []int // places where a counter is below the sample before
	lo, hi     int
	begin, end int64
	at         int64   // the step, in ms; the end of the range but for an offset
	seconds    float64 // length of the range
	parameter  float64 // of the function
}

// windowFunctions compute what the engine's functions of that name do over floats, operation by operation; ok is false where
// there is no result.
var windowFunctions = map[string]func(w *window) (v float64, ok bool){
	"rate":              func(w *window) (float64, bool) { return w.extrapolated(true, true) },
	"increase":          func(w *window) (float64, bool) { return w.extrapolated(true, false) },
	"delta":             func(w *window) (float64, bool) { return w.extrapolated(false, false) },
	"irate":             func(w *window) (float64, bool) { return w.instant(true) },
	"idelta":            func(w *window) (float64, bool) { return w.instant(false) },
	"sum_over_time":     (*window).sum,
	"avg_over_time":     (*window).avg,
	"min_over_time":     (*window).min,
	"max_over_time":     (*window).max,
	"count_over_time":   func(w *window) (float64, bool) { return float64(w.hi - w.lo), true },
	"present_over_time": func(*window) (float64, bool) { return 1, true },
	"last_over_time":    func(w *window) (float64, bool) { return w.v[w.hi-1], true },
	"changes":           (*window).changes,
	"resets":            (*window).countResets,
	"stdvar_over_time":  (*window).variance,
	"stddev_over_time":  (*window).deviation,
	"deriv":             (*window).derivative,
	"predict_linear":    (*window).predict,
}

// findResets notes where the counter was reset.
func (w *window) findResets() {
	w.resets = w.resets[:0]
	for i := 1; i < len(w.v); i++ {
		if w.v[i] < w.v[i-1] {
			w.resets = append(w.resets, i)
		}
	}
}

func (w *window) extrapolated(isCounter, isRate bool) (float64, bool) {
	first, last := w.lo, w.hi-1
	if first == last {
		return 0, false
	}
	result := w.v[last] - w.v[first]
	if isCounter {
		// Windows only move on: resets before this one are not looked at again.
		for len(w.resets) > 0 && w.resets[0] <= first {
			w.resets = w.resets[1:]
		}
		for _, i := range w.resets {
			if i > last {
				break
			}
			result += w.v[i-1]
		}
	}
	toStart := float64(w.t[first]-w.begin) / 1000
	toEnd := float64(w.end-w.t[last]) / 1000
	sampled := float64(w.t[last]-w.t[first]) / 1000
	between := sampled / float64(last-first)
	threshold := between * 1.1
	if toStart >= threshold {
		toStart = between / 2
	}
	if isCounter {
		toZero := toStart
		if result > 0 && w.v[first] >= 0 {
			toZero = sampled * (w.v[first] / result)
		}
		if toZero < toStart {
			toStart = toZero
		}
	}
	if toEnd >= threshold {
		toEnd = between / 2
	}
	factor := 1.0
	if sampled != 0 {
		factor = (sampled + toStart + toEnd) / sampled
	}
	if isRate {
		factor /= w.seconds
	}
	return result * factor, true
}

func (w *window) instant(isRate bool) (float64, bool) {
	last := w.hi - 1
	if last == w.lo {
		return 0, false
	}
	v := w.v[last]
	if !isRate || !(w.v[last] < w.v[last-1]) {
		v = w.v[last] - w.v[last-1]
	}
	if isRate {
		v /= float64(w.t[last]-w.t[last-1]) / 1000
	}
	return v, true
}

func (w *window) sum() (float64, bool) {
	var sum, c float64
	for _, f := range w.v[w.lo:w.hi] {
		sum, c = kahansum.Inc(f, sum, c)
	}
	if math.IsInf(sum, 0) {
		return sum, true
	}
	return sum + c, true
}

func (w *window) avg() (float64, bool) {
	values := w.v[w.lo:w.hi]
	m := mean{sum: values[0], count: 1}
	for _, f := range values[1:] {
		m.add(f)
	}
	return m.value(), true
}

func (w *window) max() (float64, bool) {
	values := w.v[w.lo:w.hi]
	most := values[0]
	for _, f := range values {
		if f > most || most != most {
			most = f
		}
	}
	return most, true
}

func (w *window) min() (float64, bool) {
	values := w.v[w.lo:w.hi]
	least := values[0]
	for _, f := range values {
		if f < least || least != least {
			least = f
		}
	}
	return least, true
}

func (w *window) changes() (float64, bool) {
	n := 0
	values := w.v[w.lo:w.hi]
	before := values[0]
	for _, f := range values[1:] {
		if f != before && !(f != f && before != before) {
			n++
		}
		before = f
	}
	return float64(n), true
}

func (w *window) countResets() (float64, bool) {
	// Windows only move on: resets before this one are not looked at again.
	for len(w.resets) > 0 && w.resets[0] <= w.lo {
		w.resets = w.resets[1:]
	}
	n := 0
	for n < len(w.resets) && w.resets[n] < w.hi {
		n++
	}
	return float64(n), true
}

func (w *window) variance() (float64, bool) {
	var count, mean, cMean, aux, cAux float64
	for _, f := range w.v[w.lo:w.hi] {
		count++
		delta := f - (mean + cMean)
		mean, cMean = kahansum.Inc(delta/count, mean, cMean)
		aux, cAux = kahansum.Inc(delta*(f-(mean+cMean)), aux, cAux)
	}
	return (aux + cAux) / count, true
}

func (w *window) deviation() (float64, bool) {
	v, ok := w.variance()
	return math.Sqrt(v), ok
}

func (w *window) derivative() (float64, bool) {
	if w.hi-w.lo < 2 {
		return 0, false
	}
	slope, _ := w.line(w.t[w.lo])
	return slope, true
}

func (w *window) predict() (float64, bool) {
	if w.hi-w.lo < 2 {
		return 0, false
	}
	slope, intercept := w.line(w.at)
	return slope*w.parameter + intercept, true
}

// line is the straight line of least squares, with the intercept at a time (ms).
func (w *window) line(at int64) (slope, intercept float64) {
	var n, sumX, cX, sumY, cY, sumXY, cXY, sumX2, cX2 float64
	first := w.v[w.lo]
	constant := true
	for i := w.lo; i < w.hi; i++ {
		y := w.v[i]
		if constant && i > w.lo && y != first {
			constant = false
		}
		n++
		x := float64(w.t[i]-at) / 1e3
		sumX, cX = kahansum.Inc(x, sumX, cX)
		sumY, cY = kahansum.Inc(y, sumY, cY)
		sumXY, cXY = kahansum.Inc(x*y, sumXY, cXY)
		sumX2, cX2 = kahansum.Inc(x*x, sumX2, cX2)
	}
	if constant {
		if math.IsInf(first, 0) {
			return math.NaN(), math.NaN()
		}
		return 0, first
	}
	sumX += cX
	sumY += cY
	sumXY += cXY
	sumX2 += cX2

	covXY := sumXY - sumX*sumY/n
	varX := sumX2 - sumX*sumX/n

	slope = covXY / varX
	return slope, sumY/n - slope*sumX/n
}

// mean is a running mean as the engine takes it, of a range and of a group alike: a compensated sum as long as that does not
// overflow, from then on a compensated incremental mean. It begins with the first value as sum and a count of 1.
type mean struct {
	sum, c, mean, count float64
	incremental         bool
}

func (m *mean) add(f float64) {
	m.count++
	if !m.incremental {
		sum, c := kahansum.Inc(f, m.sum, m.c)
		if !math.IsInf(sum, 0) {
			m.sum, m.c = sum, c
			return
		}
		m.incremental = true
		m.mean = m.sum / (m.count - 1)
		m.c /= m.count - 1
	}
	q := (m.count - 1) / m.count
	m.mean, m.c = kahansum.Inc(f/m.count, q*m.mean, q*m.c)
}

func (m *mean) value() float64 {
	if m.incremental {
		return m.mean + m.c
	}
	return m.sum/m.count + m.c/m.count
}
