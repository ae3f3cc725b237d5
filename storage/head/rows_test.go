package head

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/codec"
)

// TestRowsAreWhatWasKept, whatever comes and goes, and what was read of them before stays as it was.
func TestRowsAreWhatWasKept(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		var kept rows
		var model []Row
		type reading struct{ got, want []Row }
		var readings []reading
		var counted int64
		for range 60 {
			switch random.IntN(4) {
			case 0, 1:
				var more []Row
				for range 1 + random.IntN(3) {
					r := Row{
						Start: int64(random.Uint64()), End: math.MaxInt64 - int64(random.IntN(1000)), N: int32(random.Uint32()), Version: int32(random.IntN(8)),
						Encoding: codec.Encoding(random.IntN(256)), Data: make([]byte, random.IntN(80)),
					}
					for i := range r.Data {
						r.Data[i] = byte(random.Uint32())
					}
					counted += r.bytes()
					more = append(more, r)
				}
				kept = kept.with(more...)
				for _, r := range more {
					r.Data = slices.Clone(r.Data)
					model = append(model, r)
				}
				clear(more[0].Data) // it was copied
			case 2:
				version := int32(random.IntN(8))
				var freed int64
				kept, freed = kept.without(func(r Row) bool { return r.Version == version })
				counted -= freed
				model = slices.DeleteFunc(slices.Clone(model), func(r Row) bool { return r.Version == version })
			default:
				readings = append(readings, reading{kept.all(), slices.Clone(model)})
			}
			if len(model) == 0 {
				require.Empty(t, kept)
			} else {
				require.Equal(t, model, kept.all())
			}
		}
		for _, r := range readings {
			require.Equal(t, len(r.want), len(r.got))
			for i := range r.want {
				require.Equal(t, r.want[i], r.got[i])
			}
		}
		for _, r := range model {
			counted -= r.bytes()
		}
		require.Zero(t, counted, "what is counted is given back")
		require.LessOrEqual(t, cap(kept), len(kept)+len(kept)/8+64)
	}
}

func BenchmarkCachedRows(b *testing.B) {
	var all rows
	for i := range 12 {
		all = all.with(Row{Start: int64(i) * 600_000, End: int64(i)*600_000 + 585_000, N: 40, Data: make([]byte, 40)})
	}
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			for rest := all; len(rest) > 0; {
				var r Row
				if r, rest = rest.first(); r.End > 3_000_000 {
					n++
				}
			}
		}
	})
	b.Run("evict and keep", func(b *testing.B) {
		b.ReportAllocs()
		r := Row{N: 40, Data: make([]byte, 40), Version: 1}
		for b.Loop() {
			kept, _ := all.without(func(r Row) bool { return r.Start == 0 })
			kept.with(r)
		}
	})
}
