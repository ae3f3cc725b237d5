package promql

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/schema"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// floatColumns is what an iterator has that holds its samples in arrays.
type floatColumns interface {
	// Floats returns all samples, which the caller must not change and may use until the iterator is given to another
	// series; ok is false if some are histograms or there was an error.
	Floats() (t []int64, v []float64, ok bool)
}

// compute evaluates a kernel at all steps.
func (q *kernelQueryable) compute(ctx context.Context, k *kernel) (found []points, err error) {
	switch {
	case k.operation != nil:
		found, err = q.operate(ctx, k.operation, k.grid)
	case k.inner != nil:
		found, err = q.compute(ctx, k.inner)
		q.samples.Add(int64(len(found)) * int64(k.grid.steps))
	default:
		found, err = q.read(ctx, k)
	}
	if err != nil || k.aggregate == noAggregate {
		return found, err
	}
	return k.group(ctx, k.grid, found)
}

// read evaluates a kernel up to its function.
func (q *kernelQueryable) read(ctx context.Context, k *kernel) ([]points, error) {
	offset := k.selector.OriginalOffset.Milliseconds()
	reach := q.lookback
	if k.function != "" {
		reach = k.window.Milliseconds()
	}
	hints := &storage.SelectHints{
		Start: k.grid.start - offset - reach + 1,
		End:   k.grid.end() - offset,
		Step:  k.grid.step,
		Func:  k.function,
	}
	if k.function != "" {
		hints.Range = reach
	}
	querier, err := q.inner.Querier(hints.Start, hints.End)
	if err != nil {
		return nil, err
	}
	defer querier.Close()
	set := querier.Select(ctx, false, hints, k.selector.LabelMatchers...)
	var series []storage.Series
	for set.Next() {
		series = append(series, set.At())
	}
	if err := set.Err(); err != nil {
		return nil, err
	}
	if len(set.Warnings()) > 0 {
		return nil, fmt.Errorf("%w: warnings of the storage", errNotCovered)
	}
	n := int64(len(series)) * int64(k.grid.steps)
	if q.samples.Add(n) > q.limit {
		return nil, fmt.Errorf("%w: too many samples", errNotCovered)
	}

	all := make([]points, len(series))
	values := make([]float64, n)
	var some atomic.Int64 // the most samples of a series
	var team team
	err = inParallel(ctx, len(series), several(len(series)), func() func(i int) error {
		w := team.worker()
		w.kernel, w.grid, w.offset, w.reach = k, k.grid, offset, reach
		return func(i int) error {
			row := values[i*k.grid.steps : (i+1)*k.grid.steps]
			found, err := w.evaluate(series[i], row)
			if err != nil || !found {
				return err
			}
			all[i] = points{labels: series[i].Labels(), grid: k.grid, values: row}
			for {
				most := some.Load()
				if int64(len(w.samples.t)) <= most || some.CompareAndSwap(most, int64(len(w.samples.t))) {
					return nil
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	team.dismiss()
	q.samples.Add(some.Load())

	found := all[:0]
	for _, p := range all {
		if p.values != nil {
			found = append(found, p)
		}
	}
	return found, k.rename(found)
}

// rename drops the names that the function drops, and refuses what the engine complains of.
func (k *kernel) rename(found []points) error {
	if k.function == "" {
		return nil
	}
	seen := make(map[uint64]struct{}, len(found))
	for i := range found {
		p := &found[i]
		if name := p.labels.Get(model.MetricNameLabel); warnsOfGauge(k.function) && name != "" && !counterName(name) {
			return fmt.Errorf("%w: %s may be no counter", errNotCovered, name)
		}
		if k.function != "last_over_time" {
			p.labels = p.labels.DropReserved(schema.IsMetadataLabel)
		}
		seen[p.labels.Hash()] = struct{}{}
	}
	if len(seen) < len(found) {
		return fmt.Errorf("%w: series with the same labels", errNotCovered)
	}
	return nil
}

// several is how many of n a worker takes at a time: few enough that all have work to the end.
func several(n int) int { return max(1, min(8, n/(4*runtime.GOMAXPROCS(0)))) }

// inParallel calls a function of each worker for 0 … n-1, several at a time on all cores, until one fails.
func inParallel(ctx context.Context, n, several int, worker func() func(i int) error) error {
	workers := min(runtime.GOMAXPROCS(0), (n+several-1)/several)
	var (
		next  atomic.Int64
		group sync.WaitGroup
		once  sync.Once
		first error
	)
	run := func() {
		defer func() {
			if r := recover(); r != nil {
				once.Do(func() { first = fmt.Errorf("%w: %v", errNotCovered, r) })
				next.Add(int64(n))
			}
		}()
		f := worker()
		for {
			from := int(next.Add(int64(several))) - several
			if from >= n {
				return
			}
			err := ctx.Err()
			for i := from; i < min(from+several, n) && err == nil; i++ {
				err = f(i)
			}
			if err != nil {
				once.Do(func() { first = err })
				next.Add(int64(n))
				return
			}
		}
	}
	for range workers - 1 {
		group.Go(run)
	}
	run()
	group.Wait()
	return first
}

// worker evaluates series one after the other, and has the memory for it.
type worker struct {
	kernel        *kernel
	grid          grid
	offset, reach int64 // ms

	iterator chunkenc.Iterator
	samples  window
	buffer   window
}

// idle are workers with memory that others grew to what a series takes.
var idle = sync.Pool{New: func() any { return new(worker) }}

// mostIdle is how many samples an idle worker may have room for, a megabyte: what a query reads counts against its budget, idle workers against none.
const mostIdle = 1 << 16

// team is the workers of one kernel.
type team struct {
	mu  sync.Mutex
	all []*worker
}

func (t *team) worker() *worker {
	w := idle.Get().(*worker)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, w)
	return w
}

// dismiss makes the workers idle. None may be at work, and nothing of theirs in use.
func (t *team) dismiss() {
	for _, w := range t.all {
		if max(cap(w.samples.t), cap(w.samples.v), cap(w.buffer.t)) > mostIdle {
			continue
		}
		if f, ok := w.iterator.(interface{ Forget() }); ok {
			f.Forget()
		} else {
			w.iterator = nil
		}
		w.kernel = nil
		w.samples.t, w.samples.v = nil, nil
		idle.Put(w)
	}
	t.all = nil
}

// evaluate fills row with the values at all steps, and tells whether there are any.
func (w *worker) evaluate(s storage.Series, row []float64) (found bool, err error) {
	if err := w.load(s); err != nil {
		return false, err
	}
	if w.kernel.function == "" {
		return w.lookBack(row), nil
	}
	f := windowFunctions[w.kernel.function]
	x := &w.samples
	x.findResets()
	x.lo, x.hi, x.seconds, x.parameter = 0, 0, w.kernel.window.Seconds(), w.kernel.parameter
	resets := x.resets
	for i := range row {
		x.at = w.grid.start + int64(i)*w.grid.step
		x.end = x.at - w.offset
		x.begin = x.end - w.reach
		for x.hi < len(x.t) && x.t[x.hi] <= x.end {
			x.hi++
		}
		for x.lo < x.hi && x.t[x.lo] <= x.begin {
			x.lo++
		}
		row[i] = absent
		if x.lo == x.hi {
			continue
		}
		if v, ok := f(x); ok {
			row[i], found = v, true
		}
	}
	x.resets = resets
	return found, nil
}

// lookBack evaluates an instant selector.
func (w *worker) lookBack(row []float64) (found bool) {
	t, v := w.samples.t, w.samples.v
	next := 0 // first sample after the step
	for i := range row {
		at := w.grid.start + int64(i)*w.grid.step - w.offset
		for next < len(t) && t[next] <= at {
			next++
		}
		row[i] = absent
		if next > 0 && t[next-1] > at-w.reach {
			row[i] = v[next-1]
			found = found || !isAbsent(row[i])
		}
	}
	return found
}

// load makes the samples of a series those of the worker, without stale markers if it is for a range.
func (w *worker) load(s storage.Series) error {
	w.iterator = s.Iterator(w.iterator)
	x := &w.samples
	if c, ok := w.iterator.(floatColumns); ok {
		if x.t, x.v, ok = c.Floats(); !ok {
			return fmt.Errorf("%w: histograms, or an error", errNotCovered)
		}
	} else {
		b := &w.buffer
		b.t, b.v = b.t[:0], b.v[:0]
		for kind := w.iterator.Next(); kind != chunkenc.ValNone; kind = w.iterator.Next() {
			if kind != chunkenc.ValFloat {
				return fmt.Errorf("%w: histograms", errNotCovered)
			}
			t, v := w.iterator.At()
			b.t, b.v = append(b.t, t), append(b.v, v)
		}
		if err := w.iterator.Err(); err != nil {
			return err
		}
		x.t, x.v = b.t, b.v
	}
	if w.kernel.function == "" {
		return nil
	}
	for i, v := range x.v {
		if !isAbsent(v) {
			continue
		}
		b := &w.buffer
		t, v := x.t, x.v
		b.t, b.v = append(b.t[:0], t[:i]...), append(b.v[:0], v[:i]...)
		for ; i < len(v); i++ {
			if !isAbsent(v[i]) {
				b.t, b.v = append(b.t, t[i]), append(b.v, v[i])
			}
		}
		x.t, x.v = b.t, b.v
		break
	}
	return nil
}
