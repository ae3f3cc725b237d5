package head

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// colliding returns n label sets for which package labels has one hash. It is XXH64 without a seed, which takes stripes of 32 bytes
// in four lanes: whatever the first lane takes of one stripe, there is one number in the next that brings it to a given state.
func colliding(n int) []labels.Labels {
	const (
		p1 = 11400714785074694791
		p2 = 14029467366897019727
	)
	inverse := uint64(1) // of p2, by Newton's method
	for range 6 {
		inverse *= 2 - p2*inverse
	}
	value := []byte(strings.Repeat("x", 200))
	const before = 1 + 8 + 1 + 1 + 1 + 1 + 1 // what is before the value: lengths, "__name__", "m", "v"
	head := append([]byte("\x08__name__\x01m\x01v\xc8"), value...)
	step := func(state, in uint64) uint64 { return bits.RotateLeft64(state+in*p2, 31) * p1 }
	one := uint64(p1) // a variable, so that the sum may wrap around
	start := step(one+p2, binary.LittleEndian.Uint64(head))
	target := uint64(0x0123456789abcdef)
	var out []labels.Labels
	for i := uint64(0); len(out) < n; i++ {
		first := [8]byte{}
		for k := range first {
			first[k] = 'a' + byte(i>>(4*k))&15
		}
		second := (target - step(start, binary.LittleEndian.Uint64(first[:]))) * inverse
		copy(value[32-before:], first[:])
		binary.LittleEndian.PutUint64(value[64-before:], second)
		if second := value[64-before : 72-before]; utf8.Valid(second) && bytes.IndexByte(second, 0) < 0 { // all around it is ASCII
			out = append(out, labels.FromStrings("__name__", "m", "v", string(value)))
		}
	}
	return out
}

// TestHashCollisionsAimedAt: series whose labels were made to have the same hash are told apart, and cost what others do.
func TestHashCollisionsAimedAt(t *testing.T) {
	sets := colliding(20_000)
	for _, lset := range sets[1:] {
		if lset.Hash() != sets[0].Hash() {
			t.Skip("this build of package labels hashes in another way")
		}
	}
	h := New()
	tenant := h.Tenant(1)
	key := func(spelling, i int) Key { return Key{uint64(i+1) * 0x9e3779b97f4a7c15, uint64(spelling)} } // hashes, with few that begin alike
	for i, lset := range sets {
		require.Nil(t, tenant.Find(key(2, i), lset))
		s := tenant.Add(key(1, i), uint64(i+1), lset, 0)
		require.EqualValues(t, i+1, s.ID)
	}
	looked := 0
	for _, lset := range sets {
		tenant.byLabels.find(Hash(lset), func(uint32) bool {
			looked++
			return false
		})
	}
	require.LessOrEqual(t, looked, len(sets)+9, "hardly any has the hash of another")
	for i, lset := range sets {
		require.EqualValues(t, i+1, tenant.Find(key(3, i), lset).ID)
	}
}
