package storage

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/samplelog"
	"github.com/promkeep/promkeep/storage/series"
)

type logged struct {
	id    uint64
	t, st int64
	bits  uint64
	h     *histogram.Histogram
	fh    *histogram.FloatHistogram

	labels string // of an exemplar
}

func readAll(rows [][]byte) (out []logged, err error) {
	for _, row := range rows {
		err = readPayload(row, func(id uint64, t, st int64, v float64) error {
			out = append(out, logged{id: id, t: t, st: st, bits: math.Float64bits(v)})
			return nil
		}, func(id uint64, h series.Histogram) error {
			out = append(out, logged{id: id, t: h.T, st: h.ST, h: h.H, fh: h.FH})
			return nil
		}, func(id uint64, t int64, value float64, labels string) error {
			out = append(out, logged{id: id, t: t, bits: math.Float64bits(value), labels: labels})
			return nil
		})
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// TestPayloadRoundTrip writes random entries, of any ID, time and bits, and reads them back from blocks that fit into rows.
func TestPayloadRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var w payloadWriter
	for range 200 {
		w.reset()
		var want []logged
		base := random.Int64()
		for range random.IntN(3000) {
			e := logged{id: random.Uint64() >> (1 + random.IntN(60)), t: base + random.Int64N(1000), bits: random.Uint64()}
			switch random.IntN(6) {
			case 0:
				e.t = random.Int64() - random.Int64()
			case 1:
				e.bits = math.Float64bits(float64(random.IntN(1000)))
			case 2:
				e.bits = 0x7ff0000000000002
			case 3:
				e.st = random.Int64() - random.Int64()
			case 4:
				e.bits = 0
			}
			want = append(want, e)
			w.float(e.id, e.t, e.st, math.Float64frombits(e.bits))
		}
		blocks := w.finish()
		var rows [][]byte
		for _, b := range blocks {
			require.LessOrEqual(t, len(b), samplelog.MaxBlock)
			rows = append(rows, append([]byte(nil), b...))
		}
		got, err := readAll(rows)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestPayloadOfHistograms(t *testing.T) {
	var w payloadWriter
	var want []logged
	for i := range 50 {
		h := tsdbutil.GenerateTestHistogram(int64(i))
		fh := tsdbutil.GenerateTestCustomBucketsFloatHistogram(int64(i))
		require.NoError(t, w.histogram(7, series.Histogram{T: int64(i), ST: 3, H: h}))
		w.float(9, int64(i), 0, 1.5)
		require.NoError(t, w.histogram(8, series.Histogram{T: int64(i), FH: fh}))
		want = append(want, logged{id: 7, t: int64(i), st: 3, h: h}, logged{id: 9, t: int64(i), bits: math.Float64bits(1.5)}, logged{id: 8, t: int64(i), fh: fh})
	}
	got, err := readAll(w.finish())
	require.NoError(t, err)
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i].id, got[i].id)
		require.Equal(t, want[i].st, got[i].st)
		if want[i].h != nil {
			require.True(t, want[i].h.Equals(got[i].h))
		}
		if want[i].fh != nil {
			require.True(t, want[i].fh.Equals(got[i].fh))
		}
	}
}

// FuzzReadPayload: no bytes make the replay panic.
func FuzzReadPayload(f *testing.F) {
	var w payloadWriter
	w.float(1<<40, 5, 0, 1)
	w.float(2<<40, 6, 7, -1)
	if err := w.histogram(3, series.Histogram{T: 1, H: tsdbutil.GenerateTestHistogram(1)}); err != nil {
		f.Fatal(err)
	}
	for _, b := range w.finish() {
		f.Add(append([]byte(nil), b...))
	}
	f.Fuzz(func(t *testing.T, row []byte) {
		readAll([][]byte{row})
	})
}
