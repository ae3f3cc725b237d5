package codec

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/codec/codectest"
)

// valueBytes is the size of a row of exact timestamps beyond what the same
// row of a constant 0 takes.
func valueBytes(v []float64) int {
	t := steps(1700000000000, len(v), func(int) int64 { return 15000 })
	return len(Append(nil, t, v, nil)) - len(Append(nil, t, make([]float64, len(v)), nil))
}

func TestFixedOverhead(t *testing.T) {
	t0 := int64(1700000000000)
	row := Append(nil, []int64{t0, t0 + 15000}, []float64{0, 0}, nil)
	const firstTimestamp, step, value = 6, 2, 1
	require.LessOrEqual(t, len(row)-firstTimestamp-step-value, 8)

	// A day of a constant costs no more.
	ts := steps(t0, 5760, func(int) int64 { return 15000 })
	require.LessOrEqual(t, len(Append(nil, ts, values(len(ts), func(int) float64 { return 1 }), nil)), len(row)+1)
}

// Special values must not throw a series of integers off the integer path.
func TestSpecialsCostLittle(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	plain := kindsOfValue["counter"](r, 480)
	without := valueBytes(plain)
	for name, odd := range map[string]float64{
		"stale": stale, "NaN": math.NaN(), "+Inf": math.Inf(1), "-0": math.Copysign(0, -1), "third": 1.0 / 3,
	} {
		v := append([]float64(nil), plain...)
		for i := 50; i < 480; i += 50 {
			v[i] = odd
		}
		perSpecial := 3.5
		if name == "third" {
			perSpecial = 11 // eight of them are the number itself
		}
		require.LessOrEqualf(t, float64(valueBytes(v)-without)/9, perSpecial, name)
	}
}

func TestResetsCostLittle(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, rate := range []int64{10, 1000, 1 << 30} {
		plain := counter(r, 480, 1, rate)
		reset := resets(append([]float64(nil), plain...), 97)
		require.LessOrEqual(t, float64(valueBytes(reset)-valueBytes(plain))/4, 16.0)
	}
}

// TestTypicalSize guards what was measured: the corpus at 480 samples a row.
func TestTypicalSize(t *testing.T) {
	samples, bytes := 0, 0
	eachRow(codectest.Corpus(1, benchSeries, 1920), 480, func(t []int64, v []float64) {
		samples += len(t)
		bytes += len(Append(nil, t, v, nil))
	})
	require.Less(t, float64(bytes)/float64(samples), 0.77)
}

func TestNothingIsAllocatedInTheSteadyState(t *testing.T) {
	if raceDetector {
		t.Skip("under the race detector pools forget at random")
	}
	var rows [][]byte
	var e Encoder
	var c Columns
	var row []byte
	corpus := codectest.Corpus(2, benchSeries/2, 2000)
	encode := func() {
		eachRow(corpus, 2000, func(t []int64, v []float64) { row = e.Append(row[:0], t, v, t) })
		eachRow(corpus, 20, func(t []int64, v []float64) { row = e.Append(row[:0], t, v, nil) })
	}
	encode()
	require.Zero(t, testing.AllocsPerRun(3, encode))

	eachRow(corpus, 2000, func(t []int64, v []float64) {
		rows = append(rows, e.Append(nil, t, v, nil), e.Append(nil, t[:40], v[:40], t[:40]))
	})
	decode := func() {
		for i, row := range rows {
			c.Reset()
			if err := c.Decode(row); err != nil {
				panic(err)
			}
			c.Reset()
			if err := c.DecodeRange(row, corpus[i/2].T[10], corpus[i/2].T[1500]); err != nil {
				panic(err)
			}
		}
	}
	decode()
	require.Zero(t, testing.AllocsPerRun(3, decode))
}
