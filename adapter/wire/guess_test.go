package wire

import (
	"fmt"
	"math"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// spelled is what a batch remembers of a series.
type spelled struct {
	key    Key
	extent Extent
	labels string
}

func learn(t *testing.T, request []byte) (out []spelled) {
	var d V1
	require.NoError(t, d.Reset(request))
	for d.Next() {
		ls, err := d.Labels(nil, MaxLabels)
		require.NoError(t, err)
		out = append(out, spelled{d.Key(), d.Extent(), fmt.Sprintf("%q", ls)})
	}
	require.NoError(t, d.Err())
	return out
}

// TestGuessed: whatever is guessed, what is read is the same as without guessing.
func TestGuessed(t *testing.T) {
	var d V1
	hits := 0
	check := func(r random, request []byte) {
		var req prompb.WriteRequest
		require.NoError(t, req.Unmarshal(request))
		known := learn(t, request)
		require.NoError(t, d.Reset(request))
		for i := 0; ; i++ {
			guess := i // nearly always right
			if r.IntN(4) == 0 && len(known) > 0 {
				guess = r.IntN(len(known))
			}
			if guess < len(known) {
				g := known[guess]
				if r.IntN(8) == 0 {
					g.extent = Extent(r.IntN(300))
				}
				if s, ok := d.NextGuessed(g.key, g.extent); ok {
					hits++
					require.Equal(t, i, d.Index())
					require.Equal(t, known[i].key, g.key)
					require.Equal(t, known[i].labels, g.labels)
					ls, err := d.Labels(nil, MaxLabels)
					require.NoError(t, err)
					require.Equal(t, g.labels, fmt.Sprintf("%q", ls))
					ts := req.Timeseries[i]
					require.Len(t, ts.Samples, 1)
					require.Empty(t, ts.Histograms)
					require.Empty(t, ts.Exemplars)
					require.Equal(t, ts.Samples[0].Timestamp, s.T)
					require.Equal(t, math.Float64bits(ts.Samples[0].Value), math.Float64bits(s.V))
					continue
				}
			}
			if !d.Next() {
				require.Equal(t, len(known), i)
				break
			}
			require.Equal(t, i, d.Index())
			require.Equal(t, known[i].key, d.Key())
			require.Equal(t, known[i].extent, d.Extent())
			require.Equal(t, len(req.Timeseries[i].Labels), d.LabelCount())
			n := 0
			for d.NextSample() {
				require.Equal(t, req.Timeseries[i].Samples[n].Timestamp, d.Sample().T)
				n++
			}
			require.Equal(t, len(req.Timeseries[i].Samples), n)
		}
		require.NoError(t, d.Err())
	}
	for seed := range uint64(1000) {
		r := newRandom(seed)
		request, err := r.requestV1().Marshal()
		require.NoError(t, err)
		if seed%2 == 1 {
			request = r.scramble(request, layoutV1)
		}
		check(r, request)
		request, err = singleSamples(20).Marshal()
		require.NoError(t, err)
		check(r, request)
		// A byte that is not what it was: anything may come of it but a wrong answer.
		if mutant := append([]byte(nil), request...); len(mutant) > 0 {
			mutant[r.IntN(len(mutant))] ^= byte(1 << r.IntN(8))
			if new(prompb.WriteRequest).Unmarshal(mutant) == nil && wellFormed(mutant) {
				check(r, mutant)
			}
		}
	}
	require.Greater(t, hits, 10_000)
}

func wellFormed(request []byte) bool {
	_, err := dumpDecoded(new(V1), request)
	return err == nil
}

// TestGuessedTimes: timestamps of every length, at the edges of the one that is read fast.
func TestGuessedTimes(t *testing.T) {
	var d V1
	for _, at := range []int64{0, 1, -1, 1<<35 - 1, 1 << 35, 1<<35 + 1, 1<<42 - 1, 1 << 42, 1 << 49, math.MaxInt64, math.MinInt64, 0x2_5555_5555_55, now} {
		sample := append([]byte{1<<3 | typeFixed64, 0, 0, 0, 0, 0, 0, 0xf0, 0x80}, varintField(2, uint64(at))...)
		body := message(bytesField(1, []byte{}), bytesField(2, sample))
		request := bytesField(1, body)
		known := learn(t, request)
		require.NoError(t, d.Reset(request))
		s, ok := d.NextGuessed(known[0].key, known[0].extent)
		require.Equal(t, at >= 1<<35 && at < 1<<42, ok, at)
		if ok {
			require.Equal(t, at, s.T)
			require.Equal(t, math.Float64frombits(0x80f0_0000_0000_0000), s.V)
		}
	}
}

// TestGuessedCutShort: nothing behind the end of a request is read.
func TestGuessedCutShort(t *testing.T) {
	request, err := singleSamples(1).Marshal()
	require.NoError(t, err)
	known := learn(t, request)[0]
	var d V1
	for n := range request {
		require.NoError(t, d.Reset(request[:n:n]))
		_, ok := d.NextGuessed(known.key, known.extent)
		require.False(t, ok)
	}
}
