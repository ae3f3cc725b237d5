package codec

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecodeRange(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var c Columns
	for name, times := range kindsOfTime {
		for _, n := range []int{1, 2, 20, 500, 1024, 1025, 5760} {
			ts := times(r, n)
			v := kindsOfValue["oddInCounter"](r, n)
			st := kindsOfStart["few"](r, ts)
			row := Append(nil, ts, v, st)
			for range 40 {
				lo := r.IntN(n)
				hi := lo + r.IntN(n-lo)
				mint, maxt := ts[lo], ts[hi]
				if r.IntN(2) == 0 && lo > 0 {
					mint = ts[lo-1] + 1 + r.Int64N(max(1, ts[lo]-ts[lo-1]))
				}
				c.Reset()
				require.NoError(t, c.DecodeRange(row, mint, maxt), name)
				if allZero(c.ST) && !allZero(st) {
					require.Len(t, c.ST, hi-lo+1)
				}
				requireSame(t, ts[lo:hi+1], v[lo:hi+1], st[lo:hi+1], &c)
			}
			c.Reset()
			if ts[0] > math.MinInt64 {
				require.NoError(t, c.DecodeRange(row, math.MinInt64, ts[0]-1))
			}
			if ts[n-1] < math.MaxInt64 {
				require.NoError(t, c.DecodeRange(row, ts[n-1]+1, math.MaxInt64))
			}
			if n > 1 && ts[0]+1 < ts[1] {
				require.NoError(t, c.DecodeRange(row, ts[0]+1, ts[1]-1))
			}
			if n > 1 {
				require.NoError(t, c.DecodeRange(row, ts[n-1], ts[0]))
				require.Empty(t, c.T)
				require.Empty(t, c.V)
				require.Empty(t, c.ST)
			}
		}
	}
}

// A range of time that one block covers must not cost what the whole row does.
func TestDecodeRangeSkipsBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	ts := kindsOfTime["exact"](r, 86400)
	v := kindsOfValue["uniform"](r, 86400)
	row := Append(nil, ts, v, nil)

	// What a block that must not be read holds does not matter: zero it, and
	// mend the checksum.
	body := row[:len(row)-checksumLen]
	rd := reader{b: body}
	var h header
	require.NoError(t, rd.floatHeader(&h))
	it := blockIterator{r: rd, h: h}
	for it.next() {
		if it.done != 40*h.block {
			clear(it.body.b)
		}
	}
	require.NoError(t, it.err)
	row = appendChecksum(body, 0)

	var c Columns
	lo := 39*h.block + 5
	require.NoError(t, c.DecodeRange(row, ts[lo], ts[lo+100]))
	requireSame(t, ts[lo:lo+101], v[lo:lo+101], nil, &c)
	require.Less(t, cap(c.T), 2*maxBlock)
	require.ErrorIs(t, c.Decode(row), ErrCorrupt)
	requireSame(t, ts[lo:lo+101], v[lo:lo+101], nil, &c)
}

func TestDecodeAppends(t *testing.T) {
	var c Columns
	require.NoError(t, c.Decode(Append(nil, []int64{1, 2}, []float64{1, 2}, nil)))
	require.NoError(t, c.Decode(Append(nil, []int64{3, 4, 5}, []float64{3, 4, 5}, []int64{0, 2, 2})))
	require.NoError(t, c.Decode(Append(nil, []int64{6}, []float64{6}, nil)))
	requireSame(t, []int64{1, 2, 3, 4, 5, 6}, []float64{1, 2, 3, 4, 5, 6}, []int64{0, 0, 0, 2, 2, 0}, &c)
	c.Reset()
	require.NoError(t, c.Decode(Append(nil, []int64{6}, []float64{6}, nil)))
	requireSame(t, []int64{6}, []float64{6}, nil, &c)
}

func TestAppendRefusesWhatItCannotKeep(t *testing.T) {
	for name, f := range map[string]func(){
		"empty":             func() { Append(nil, nil, nil, nil) },
		"too many":          func() { Append(nil, make([]int64, MaxSamples+1), make([]float64, MaxSamples+1), nil) },
		"values missing":    func() { Append(nil, []int64{1, 2}, []float64{1}, nil) },
		"starts missing":    func() { Append(nil, []int64{1, 2}, []float64{1, 2}, []int64{1}) },
		"same timestamp":    func() { Append(nil, []int64{1, 1}, []float64{1, 2}, nil) },
		"backwards in time": func() { Append(nil, []int64{2, 1}, []float64{1, 2}, nil) },
	} {
		require.Panics(t, f, name)
	}
}

func TestLargestRow(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	var c Columns
	for _, kind := range []string{"constant", "line", "counter", "anyBits"} {
		ts := kindsOfTime["exact"](r, MaxSamples)
		v := kindsOfValue[kind](r, MaxSamples)
		c.Reset()
		require.NoError(t, c.Decode(Append(nil, ts, v, nil)))
		requireSame(t, ts, v, nil, &c)
	}
}
