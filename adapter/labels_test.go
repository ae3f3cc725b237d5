package adapter

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/adapter/wire"
)

// TestPlain: what is plain is valid UTF-8 without NUL, wherever in it the byte lies that is not, and ASCII without NUL is plain.
func TestPlain(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for range 100_000 {
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = 1 + byte(r.IntN(127))
		}
		require.True(t, plain(b), "%q", b)
		if len(b) > 0 {
			b[r.IntN(len(b))] = []byte{0, 0x80, 0xff, 0xc3}[r.IntN(4)]
			require.False(t, plain(b), "%q", b)
		}
		if plain(b) {
			require.True(t, utf8.Valid(b) && bytes.IndexByte(b, 0) < 0)
		}
	}
}

// TestLabelsOutliveTheRequest: a label set does not change when the memory of the request it came with is used again.
func TestLabelsOutliveTheRequest(t *testing.T) {
	raw := []byte("__name__metricjobprometheus")
	ls := []wire.Label{{Name: raw[:8], Value: raw[8:14]}, {Name: raw[14:17], Value: raw[17:]}}
	limits := Limits{Labels: 10, LabelNameBytes: 100, LabelValueBytes: 100}
	b := labels.NewScratchBuilder(2)
	lset, bad := limits.normalise(&b, ls)
	require.Nil(t, bad)
	for i := range raw {
		raw[i] = 'x'
	}
	require.Equal(t, `{__name__="metric", job="prometheus"}`, lset.String())
}
