package codec

import (
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
)

// columnsFrom makes columns of whatever bytes the fuzzer comes up with. The
// first byte says how they are read: timestamps as 1, 2 or 8 byte steps,
// values as bit patterns, as small integers or as decimals, and how often they
// repeat, so that short inputs reach every part of the encoder.
func columnsFrom(data []byte) (t []int64, v []float64, st []int64) {
	if len(data) < 3 {
		return nil, nil, nil
	}
	how, repeat := data[0], 1+int(data[1])%64
	data = data[2:]
	take := func(n int) uint64 {
		var b [8]byte
		copy(b[:], data[:min(n, len(data))])
		data = data[min(n, len(data)):]
		return binary.LittleEndian.Uint64(b[:])
	}
	at := int64(take(8))
	step := uint64(15000)
	for len(data) > 0 && len(t) < 5000 {
		switch how & 3 {
		case 1:
			step = 1 + take(1)
		case 2:
			step = 15000 + take(2)
		case 3:
			step = 1 + take(8)>>1
		}
		var x float64
		switch how >> 2 & 3 {
		case 0:
			x = math.Float64frombits(take(8))
		case 1:
			x = float64(int8(take(1)))
		case 2:
			x = float64(int32(take(4))) / 100
		case 3:
			x = oddValues[take(1)%uint64(len(oddValues))]
		}
		for j := range repeat {
			next := int64(uint64(at) + step)
			if len(t) > 0 && next <= at {
				return t, v, st
			}
			at = next
			t = append(t, at)
			if how&0x80 != 0 {
				x++
			}
			v = append(v, x)
			if how&0x40 != 0 {
				st = append(st, int64(take(j&1)))
			}
		}
	}
	return t, v, st
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("\x00\x00bits of floats and whatever else comes along"))
	f.Add([]byte("\x45\x09small integers, repeated"))
	f.Add([]byte("\x8a\x1fdecimals that run upwards"))
	f.Add([]byte("\xcf\x02odd values at odd times"))
	var e Encoder
	var c Columns
	f.Fuzz(func(t *testing.T, data []byte) {
		ts, v, st := columnsFrom(data)
		if len(ts) == 0 {
			return
		}
		row := e.Append(nil, ts, v, st)
		c.Reset()
		require.NoError(t, c.Decode(row))
		requireSame(t, ts, v, st, &c)

		lo, hi := len(ts)/3, len(ts)/2
		c.Reset()
		require.NoError(t, c.DecodeRange(row, ts[lo], ts[hi]))
		require.Equal(t, ts[lo:hi+1], c.T)
		mint, maxt, err := Bounds(row)
		require.NoError(t, err)
		require.Equal(t, [2]int64{ts[0], ts[len(ts)-1]}, [2]int64{mint, maxt})
	})
}

// maxDecoded is the memory that decoding a row may take: columns of
// MaxSamples, or for histograms a multiple of the row.
func maxDecoded(row []byte) uint64 { return 4*3*8*MaxSamples + 2000*uint64(len(row)) }

// FuzzDecode mends the checksum, so that hostile bytes come through to the
// decoders.
func FuzzDecode(f *testing.F) {
	for seed, data := range []string{"\x00\x00bits of floats and whatever", "\x45\x09small integers, repeated", "\x8a\x1fdecimals upwards", "\xcf\x02odd values at odd times"} {
		t, v, st := columnsFrom([]byte(data))
		row := Append(nil, t, v, st)
		f.Add(row[:len(row)-checksumLen], int64(seed), int64(math.MaxInt64))
	}
	h := tsdbutil.GenerateTestHistograms(5)
	row, err := AppendHistograms(nil, []int64{1, 2, 3, 4, 5}, []int64{0, 1, 1, 1, 3}, h)
	require.NoError(f, err)
	f.Add(row[:len(row)-checksumLen], int64(2), int64(3))
	row, err = AppendFloatHistograms(nil, []int64{1, 2, 3, 4, 5}, nil, toFloat(h))
	require.NoError(f, err)
	f.Add(row[:len(row)-checksumLen], int64(math.MinInt64), int64(3))

	f.Fuzz(func(t *testing.T, body []byte, mint, maxt int64) {
		row := appendChecksum(slices.Clip(body), 0)
		if _, err := checked(row); err != nil {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var c Columns
		checkDecoded(t, c.Decode(row), c.T)
		require.Len(t, c.V, len(c.T))
		checkDecoded(t, c.DecodeRange(row, mint, maxt), nil)
		var h Histograms
		checkDecoded(t, h.Decode(row), h.T)
		require.Len(t, h.T, len(h.H)+len(h.FH))
		checkDecoded(t, h.DecodeRange(row, mint, maxt), nil)
		_, err := AppendChunks(nil, row, mint, maxt)
		checkDecoded(t, err, nil)
		lo, hi, err := Bounds(row)
		checkDecoded(t, err, nil)
		require.True(t, err != nil || lo <= hi)
		_, err = Count(row)
		checkDecoded(t, err, nil)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, maxDecoded(row))
	})
}

func checkDecoded(t *testing.T, err error, ts []int64) {
	t.Helper()
	if err != nil {
		require.Truef(t, errors.Is(err, ErrCorrupt), "%v", err)
	}
	require.Negative(t, firstDisorder(ts))
}

// Every byte of a row is under its checksum.
func TestDamageIsNoticed(t *testing.T) {
	ts, v, st := columnsFrom([]byte("\x45\x09small integers, repeated"))
	h, err := AppendHistograms(nil, []int64{1, 2}, nil, tsdbutil.GenerateTestHistograms(2))
	require.NoError(t, err)
	for _, row := range [][]byte{Append(nil, ts, v, st), h} {
		for i := range row {
			for bit := range 8 {
				row[i] ^= 1 << bit
				var c Columns
				var hs Histograms
				require.ErrorIs(t, c.Decode(row), ErrCorrupt)
				require.ErrorIs(t, hs.Decode(row), ErrCorrupt)
				_, _, err := Bounds(row)
				require.ErrorIs(t, err, ErrCorrupt)
				row[i] ^= 1 << bit
			}
			var c Columns
			require.ErrorIs(t, c.Decode(row[:i]), ErrCorrupt)
		}
	}
}
