package promql

import (
	"context"
	"math"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/kahansum"
)

// group aggregates the series as the engine does: in their order, step by step; groups come in the order of their first series.
func (k *kernel) group(ctx context.Context, g grid, in []points) ([]points, error) {
	var (
		buf     []byte
		byKey   = map[uint64]int{}
		groupOf = make([]int, len(in))
		out     []points
		builder = labels.NewBuilder(labels.EmptyLabels())
	)
	for i, p := range in {
		var key uint64
		switch {
		case k.without:
			key, buf = p.labels.HashWithoutLabels(buf, k.grouping...)
		case len(k.grouping) > 0:
			key, buf = p.labels.HashForLabels(buf, k.grouping...)
		}
		n, ok := byKey[key]
		if !ok {
			n = len(out)
			byKey[key] = n
			name := labels.EmptyLabels()
			if builder.Reset(p.labels); k.without {
				name = builder.Del(k.grouping...).Del(model.MetricNameLabel).Labels()
			} else if len(k.grouping) > 0 {
				name = builder.Keep(k.grouping...).Labels()
			}
			out = append(out, points{labels: name, grid: g, values: make([]float64, g.steps)})
		}
		groupOf[i] = n
	}
	// The steps are independent of each other; a stretch of them is enough to go through the series in turn.
	const stretch = 64
	err := inParallel(ctx, (g.steps+stretch-1)/stretch, 1, func() func(i int) error {
		state := make([]accumulator, len(out)*stretch)
		return func(i int) error {
			clear(state)
			from, to := i*stretch, min((i+1)*stretch, g.steps)
			for s, p := range in {
				k.accumulate(state[groupOf[s]*stretch:], p.values[from:to])
			}
			for n := range out {
				for j := from; j < to; j++ {
					out[n].values[j] = state[n*stretch+j-from].value(k.aggregate)
				}
			}
			return nil
		}
	})
	return out, err
}

// accumulator is the state of one group at one step; seen is false before its first value.
type accumulator struct {
	mean
	seen bool
}

// accumulate adds a series to its group: a value for each state, or none.
func (k *kernel) accumulate(states []accumulator, values []float64) {
	for i, f := range values {
		if isAbsent(f) {
			continue
		}
		a := &states[i]
		if !a.seen {
			a.seen = true
			a.sum, a.mean.mean, a.count = f, f, 1
			switch {
			case k.aggregate == parser.GROUP:
				a.sum = 1
			case k.aggregate != parser.STDDEV && k.aggregate != parser.STDVAR:
			case math.IsNaN(f), math.IsInf(f, 0):
				a.sum = math.NaN()
			default:
				a.sum = 0
			}
			continue
		}
		switch k.aggregate {
		case parser.SUM:
			a.sum, a.c = kahansum.Inc(f, a.sum, a.c)
		case parser.AVG:
			a.add(f)
		case parser.MAX:
			if a.sum < f || math.IsNaN(a.sum) {
				a.sum = f
			}
		case parser.MIN:
			if a.sum > f || math.IsNaN(a.sum) {
				a.sum = f
			}
		case parser.COUNT:
			a.count++
		case parser.STDDEV, parser.STDVAR:
			a.count++
			delta := f - a.mean.mean
			a.mean.mean += delta / a.count
			a.sum += delta * (f - a.mean.mean)
		}
	}
}

func (a *accumulator) value(op parser.ItemType) float64 {
	if !a.seen {
		return absent
	}
	switch op {
	case parser.SUM:
		return a.sum + a.c
	case parser.AVG:
		return a.mean.value()
	case parser.COUNT:
		return a.count
	case parser.STDDEV:
		return math.Sqrt(a.sum / a.count)
	case parser.STDVAR:
		return a.sum / a.count
	}
	return a.sum
}
