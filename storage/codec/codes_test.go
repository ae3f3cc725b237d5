package codec

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCodesAreComplete: every string of bits begins with a code, and no code with another.
func TestCodesAreComplete(t *testing.T) {
	for code := range numCodes {
		space := 0
		for b, e := range encoding[code] {
			length := int(e & 15)
			if length == 0 {
				require.True(t, code == codeNonzero && b == 0)
				continue
			}
			require.LessOrEqual(t, length, codeLen)
			space += 1 << (codeLen - length)
			first := int(e>>4) << (codeLen - length)
			for i := range 1 << (codeLen - length) {
				require.Equal(t, symbol(b<<8|length), decoding[code][first+i])
				quick := symbol(0)
				if length <= quickLen {
					quick = decoding[code][first+i]
				}
				require.Equal(t, quick, quickDecoding[code][(first+i)>>(codeLen-quickLen)])
			}
		}
		require.Equal(t, 1<<codeLen, space, "code %d", code)
	}
}

// TestCodesRoundTrip writes bytes with every share of ones, several strings one behind the other, and reads them up to the
// very end of the input.
func TestCodesRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for code := range numCodes {
		for _, n := range []int{0, 1, 2, 3, 4, 5, 7, 8, 15, 31, 256} {
			for _, share := range []float64{0, 0.01, 0.1, 0.3, 0.5, 1} {
				t.Run(fmt.Sprintf("%d/%d/%g", code, n, share), func(t *testing.T) {
					want := make([]byte, n)
					for i := range want {
						for bit := range 8 {
							if r.Float64() < share {
								want[i] |= 1 << bit
							}
						}
						if code == codeNonzero && want[i] == 0 {
							want[i] = 1 << r.IntN(8)
						}
					}
					w := bitWriter{dst: []byte("before"), free: 64}
					w.write(code, want[:n/3])
					w.write(code, want[n/3:])
					coded := w.close()[len("before"):]
					require.Equal(t, (codedLen(code, want)+7)/8, len(coded))

					from := codeReader{b: coded}
					got := make([]byte, n)
					from.read(code, got[:n/3])
					from.read(code, got[n/3:])
					require.Equal(t, want, got)
					left := reader{b: append(coded, "behind"...)}
					require.True(t, from.end(&left))
					require.Equal(t, "behind", string(left.b))

					if n > 0 { // cut off: never beyond the end
						short := codeReader{b: coded[: len(coded)-1 : len(coded)-1]}
						short.read(code, got)
						if short.pos > 8*len(short.b) {
							require.False(t, short.end(&reader{b: short.b}))
						}
					}
				})
			}
		}
	}
}
