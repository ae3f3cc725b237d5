package chunks

import (
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/promkeep/promkeep/storage/codec"
)

// Times is the timestamps of several packed rows: all series of a target are scraped at the same moments. A row that has them keeps
// the numbers 0, 1, 2, … in place of its timestamps, which cost nothing; Times is a packed row of the timestamps, with the value 0.
type Times struct {
	row []byte
	own bool // row is not part of a bundle's memory any more
}

// timesOf finds the Times of rows that are made one after another.
type timesOf struct {
	t    [4][]int64
	made [4]*Times
	next int
}

// shared returns the Times of t (ms), or nil if they are regular and cost next to nothing anyway.
func (s *timesOf) shared(t []int64) *Times {
	if regular(t) {
		return nil
	}
	for i, known := range s.t {
		if slices.Equal(known, t) {
			return s.made[i]
		}
	}
	i := s.next % len(s.t)
	s.next++
	s.t[i] = append(s.t[i][:0], t...)
	s.made[i] = &Times{codec.Append(nil, t, make([]float64, len(t)), nil), true}
	return s.made[i]
}

func regular(t []int64) bool {
	for i := 2; i < len(t); i++ {
		if t[i]-t[i-1] != t[1]-t[0] {
			return false
		}
	}
	return true
}

// numbers returns 0, 1, … n-1, for n up to codec.MaxSamples.
func numbers(n int) []int64 { return counting()[:n] }

var counting = sync.OnceValue(func() []int64 {
	out := make([]int64, codec.MaxSamples)
	for i := range out {
		out[i] = int64(i)
	}
	return out
})

// decodedTimes is the timestamps of a Times, which mostly is wanted for several series in a row.
type decodedTimes struct {
	of   *Times
	cols codec.Columns
}

var timesScratch = sync.Pool{New: func() any { return new(decodedTimes) }}

// decodeRange appends the samples of a row of floats in [mint, maxt] (ms) to c. On error c is as it was.
func (r Row) decodeRange(c *codec.Columns, mint, maxt int64) error {
	if r.Times == nil {
		return c.DecodeRange(r.Data, mint, maxt)
	}
	d := timesScratch.Get().(*decodedTimes)
	defer timesScratch.Put(d)
	if d.of != r.Times {
		d.of = nil
		d.cols.Reset()
		if err := d.cols.Decode(r.Times.row); err != nil {
			return fmt.Errorf("its timestamps: %w", err)
		}
		d.of = r.Times
	}
	t := d.cols.T
	if len(t) != int(r.N) {
		return fmt.Errorf("%w: %d timestamps for %d samples", codec.ErrCorrupt, len(t), r.N)
	}
	from := sort.Search(len(t), func(i int) bool { return t[i] >= mint })
	upto := from + sort.Search(len(t)-from, func(i int) bool { return t[from+i] > maxt })
	if from == upto {
		return nil
	}
	had := len(c.T)
	if err := c.DecodeRange(r.Data, int64(from), int64(upto-1)); err != nil {
		return err
	}
	if len(c.T)-had != upto-from {
		got := len(c.T) - had
		c.T, c.V = c.T[:had], c.V[:had]
		return fmt.Errorf("%w: %d samples of %d", codec.ErrCorrupt, got, upto-from)
	}
	copy(c.T[had:], t[from:upto])
	return nil
}

// Alone returns the row with timestamps of its own.
func (r Row) Alone() (Row, error) {
	if r.Times == nil {
		return r, nil
	}
	var c codec.Columns
	if err := r.decodeRange(&c, r.Start, r.End); err != nil {
		return r, &RowError{r, err}
	}
	r.Data, r.Times = codec.Append(nil, c.T, c.V, nil), nil
	return r, nil
}
