package chunks

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/promkeep/promkeep/storage/codec"
	"github.com/promkeep/promkeep/storage/series"
)

// Clipped is a row of which only the samples in [Mint, Maxt] (ms) count.
type Clipped struct {
	Row
	Mint, Maxt int64
}

// Load brings the samples of rows, and of more runs in order of time, together into set, which it resets first. It sorts rows.
// The error tells which row cannot be decoded.
func Load(set *series.Set, rows []Clipped, more ...series.Run) error {
	return load(set, rows, more, false)
}

func load(set *series.Set, rows []Clipped, more []series.Run, keepResets bool) error {
	set.Reset()
	if len(rows) > 1 {
		slices.SortFunc(rows, func(a, b Clipped) int { return cmp.Compare(a.Start, b.Start) })
	}
	if inOrder(rows, more) {
		set.Grow(whole(rows))
		for i := range rows {
			r := &rows[i]
			if err := r.decodeRange(&set.Columns, r.Mint, r.Maxt); err != nil {
				return &RowError{r.Row, err}
			}
		}
		for _, run := range more {
			set.Append(run)
		}
		return nil
	}
	runs := append(make([]series.Run, 0, len(rows)+len(more)), more...)
	for _, r := range rows {
		run, err := decode(r.Row, r.Mint, r.Maxt, keepResets)
		if err != nil {
			return &RowError{r.Row, err}
		}
		runs = append(runs, run)
	}
	series.Merge(set, runs)
	return nil
}

// whole counts the samples of the rows of which all count. A damaged row may claim any number.
func whole(rows []Clipped) (n int) {
	for i := range rows {
		if r := &rows[i]; r.Mint <= r.Start && r.End <= r.Maxt {
			n += int(min(max(r.N, 0), codec.MaxSamples))
		}
	}
	return n
}

// inOrder tells whether rows and runs follow each other and hold only floats, so that they need not be merged.
func inOrder(rows []Clipped, more []series.Run) bool {
	last := int64(math.MinInt64)
	for i := range rows {
		r := &rows[i]
		start, end := max(r.Start, r.Mint), min(r.End, r.Maxt)
		if r.Encoding != codec.EncodingFloat || (i > 0 && start <= last) {
			return false
		}
		last = max(last, end)
	}
	for i, run := range more {
		if len(run.Histograms) > 0 || len(run.T) > 0 && run.T[0] <= last && (i > 0 || len(rows) > 0) {
			return false
		}
		if len(run.T) > 0 {
			last = run.T[len(run.T)-1]
		}
	}
	return true
}

// RowError tells which row cannot be decoded.
type RowError struct {
	Row Row
	Err error
}

func (e *RowError) Error() string { return e.Row.String() + ": " + e.Err.Error() }

// Damaged tells that it is what is stored that is at fault, not what was asked.
func (e *RowError) Damaged() bool { return true }

// Unwrap returns what is wrong with the row.
func (e *RowError) Unwrap() error { return e.Err }

// decode keeps the counter resets of histograms that only a hint tells of, if the samples are to be encoded again.
func decode(r Row, mint, maxt int64, keepResets bool) (series.Run, error) {
	run := series.Run{Version: int64(r.Version)}
	switch r.Encoding {
	case codec.EncodingFloat:
		var c codec.Columns
		if err := r.decodeRange(&c, mint, maxt); err != nil {
			return run, err
		}
		run.T, run.V = c.T, c.V
		if len(c.ST) > 0 {
			run.ST = c.ST
		}
	case codec.EncodingHistogram, codec.EncodingFloatHistogram:
		c := codec.Histograms{KeepResets: keepResets}
		if err := c.DecodeRange(r.Data, mint, maxt); err != nil {
			return run, err
		}
		run.Histograms = make([]series.Histogram, len(c.T))
		for i, t := range c.T {
			h := &run.Histograms[i]
			h.T = t
			if len(c.ST) > 0 {
				h.ST = c.ST[i]
			}
			if r.Encoding == codec.EncodingHistogram {
				h.H = c.H[i]
			} else {
				h.FH = c.FH[i]
			}
		}
	default:
		return run, fmt.Errorf("%w: unknown encoding %d", codec.ErrCorrupt, r.Encoding)
	}
	return run, nil
}

// AppendEncoded packs the samples of one series into rows, which it appends to out: floats, integer histograms and float histograms each into their own. On error
// out is as it was.
func AppendEncoded(out []Row, id uint64, version int32, set *series.Set) ([]Row, error) {
	return encode(out, id, version, set, nil)
}

// encode is AppendEncoded, and lets rows of floats share their timestamps, if it is told with which.
func encode(out []Row, id uint64, version int32, set *series.Set, times *timesOf) ([]Row, error) {
	had := len(out)
	for t, v, st := set.T, set.V, set.ST; len(t) > 0; {
		n := min(len(t), codec.MaxSamples)
		r := Row{SeriesID: id, Start: t[0], End: t[n-1], N: int32(n), Version: version, Encoding: codec.EncodingFloat}
		if len(st) > 0 {
			r.Data = codec.Append(nil, t[:n], v[:n], st[:n])
			st = st[n:]
		} else if times != nil {
			column := t[:n]
			if r.Times = times.shared(column); r.Times != nil {
				column = numbers(n)
			}
			r.Data = codec.Append(nil, column, v[:n], nil)
		} else {
			r.Data = codec.Append(nil, t[:n], v[:n], nil)
		}
		out = append(out, r)
		t, v = t[n:], v[n:]
	}
	if len(set.Histograms) == 0 {
		return out, nil
	}
	for _, float := range [2]bool{false, true} {
		rows, err := encodeHistograms(id, version, set.Histograms, float)
		if err != nil {
			return out[:had], err
		}
		out = append(out, rows...)
	}
	return out, nil
}

// encodeHistograms packs those of the histograms that have float counts, or those that have not.
func encodeHistograms(id uint64, version int32, all []series.Histogram, float bool) (out []Row, err error) {
	var (
		t, st []int64
		hs    []*histogram.Histogram
		fhs   []*histogram.FloatHistogram
		some  bool // a start timestamp
	)
	for _, h := range all {
		if (h.FH != nil) != float {
			continue
		}
		t, st, hs, fhs = append(t, h.T), append(st, h.ST), append(hs, h.H), append(fhs, h.FH)
		some = some || h.ST != 0
	}
	for from := 0; from < len(t); from += codec.MaxSamples {
		to := min(from+codec.MaxSamples, len(t))
		r := Row{SeriesID: id, Start: t[from], End: t[to-1], N: int32(to - from), Version: version, Encoding: codec.EncodingHistogram}
		var starts []int64
		if some {
			starts = st[from:to]
		}
		if float {
			r.Encoding = codec.EncodingFloatHistogram
			r.Data, err = codec.AppendFloatHistograms(nil, t[from:to], starts, fhs[from:to])
		} else {
			r.Data, err = codec.AppendHistograms(nil, t[from:to], starts, hs[from:to])
		}
		if err != nil {
			return nil, fmt.Errorf("histograms of series %d, %d to %d ms: %w", id, r.Start, r.End, err)
		}
		out = append(out, r)
	}
	return out, nil
}
