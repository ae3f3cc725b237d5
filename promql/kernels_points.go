package promql

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
)

// grid is the steps of a query or a subquery, times in ms.
type grid struct {
	start, step int64
	steps       int
}

func newGrid(start, end, step int64) grid {
	if end < start {
		return grid{}
	}
	return grid{start, step, int((end-start)/step) + 1}
}

// end is the last step.
func (g grid) end() int64 { return g.start + int64(g.steps-1)*g.step }

// absent stands for no value at a step. No operation makes a stale marker, so no value is mistaken for it; and the engine
// does not look back behind it.
var absent = math.Float64frombits(value.StaleNaN)

func isAbsent(v float64) bool { return math.Float64bits(v) == value.StaleNaN }

// pointsSet implements storage.SeriesSet over what a kernel computes.
type pointsSet struct {
	done   chan struct{}
	series []points // as the other fields written before done is closed
	err    error
	at     int
}

func (s *pointsSet) Next() bool {
	<-s.done
	s.at++
	return s.at <= len(s.series)
}

func (s *pointsSet) At() storage.Series { return &s.series[s.at-1] }

func (s *pointsSet) Err() error {
	<-s.done
	return s.err
}

func (*pointsSet) Warnings() annotations.Annotations { return nil }

// points is a series with a value or none at each step.
type points struct {
	labels labels.Labels
	grid   grid
	values []float64
}

func (p *points) Labels() labels.Labels { return p.labels }

func (p *points) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	i, ok := it.(*pointsIterator)
	if !ok {
		i = &pointsIterator{}
	}
	i.points, i.at = p, -1
	return i
}

type pointsIterator struct {
	points *points
	at     int
}

func (i *pointsIterator) Next() chunkenc.ValueType {
	i.at = min(i.at+1, len(i.points.values))
	return i.kind()
}

func (i *pointsIterator) kind() chunkenc.ValueType {
	if i.at >= len(i.points.values) {
		return chunkenc.ValNone
	}
	return chunkenc.ValFloat
}

func (i *pointsIterator) Seek(t int64) chunkenc.ValueType {
	g := i.points.grid
	i.at = max(i.at, 0)
	if t > g.start {
		steps := (t - g.start + g.step - 1) / g.step
		i.at = int(min(max(int64(i.at), steps), int64(len(i.points.values))))
	}
	return i.kind()
}

func (i *pointsIterator) At() (int64, float64) { return i.AtT(), i.points.values[i.at] }
func (i *pointsIterator) AtT() int64           { return i.points.grid.start + int64(i.at)*i.points.grid.step }
func (*pointsIterator) AtST() int64            { return 0 }
func (*pointsIterator) Err() error             { return nil }

// There are no histograms.
func (i *pointsIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	return i.AtT(), nil
}

func (i *pointsIterator) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return i.AtT(), nil
}
