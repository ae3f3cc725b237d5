package codec

import (
	"hash/crc32"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// integers is what FORMAT.md says of kinds, word for word.
func integers(c *column, u []uint64) []int64 {
	k := make([]int64, len(u))
	shift := max(0, c.kind-4)
	d, a := c.slope, c.slope<<shift
	for i := range u {
		x := int64(u[i])
		if c.zigzag {
			x = unzigzag(u[i])
		}
		x *= int64(c.unit)
		switch {
		case c.kind == kindLevel:
			k[i] = c.base + x
		case c.kind == kindLine:
			k[i] = c.base + int64(i)*c.slope + x
		case i == 0 && c.kind == kindXOR:
			k[i] = c.base ^ x
		case i == 0:
			k[i] = c.base + x
		case c.kind == kindDelta:
			k[i] = k[i-1] + c.slope + x
		case c.kind == kindDelta2:
			d += x
			k[i] = k[i-1] + d
		case c.kind == kindXOR:
			k[i] = k[i-1] ^ x
		default:
			k[i] = k[i-1] + a>>shift + x
			a += x
		}
	}
	return k
}

// TestIntegrate: every kind, at every width and density of residuals, by each of the ways to
// compute it.
func TestIntegrate(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	fastInts, fastFloats := 0, [4]int{}
	for range 20000 {
		n := 1 + r.IntN(200)
		if r.IntN(50) == 0 {
			n = 1 + r.IntN(maxBlock)
		}
		c := column{
			kind: r.IntN(numKinds), zigzag: r.IntN(2) == 0, base: r.Int64() >> r.IntN(64), slope: r.Int64() >> r.IntN(64),
			unit: 1 + r.Uint64N(2)*r.Uint64()>>r.IntN(64),
		}
		width, some := 1+r.IntN(64), r.Float64()
		if r.IntN(3) == 0 {
			some *= 0.05
		}
		u, low, high := make([]uint64, n), make([]byte, n), make([]byte, n)
		var at []uint16
		var few []uint64
		for i := range u {
			if r.Float64() < some {
				u[i] = r.Uint64() >> (64 - width)
				at, few = append(at, uint16(i)), append(few, u[i])
			}
			low[i], high[i] = byte(u[i]), byte(u[i]>>8)
		}
		want, got := integers(&c, u), make([]int64, n)
		floats, gotFloats := make([]float64, n), make([]float64, n)
		for i, k := range want {
			floats[i] = float64(k)
		}
		integrate(&c, got, u)
		require.Equal(t, want, got)
		integrate(&c, gotFloats, u)
		require.Equal(t, floats, gotFloats)
		clear(got)
		integrateFew(&c, got, at, few)
		require.Equal(t, want, got, "%+v %v %v", c, at, few)
		clear(gotFloats)
		integrateFew(&c, gotFloats, at, few)
		require.Equal(t, floats, gotFloats)
		if width <= 32 {
			// As the decoder has them: room for a multiple of eight, and anything behind the end.
			stride, count := 64*r.IntN(2)+(n+7)&^7, (width+7)/8+r.IntN(1+(32-width)/8)
			lanes := slices.Repeat([]byte{0xa5}, 4*stride)
			for i, x := range u {
				for l := range count {
					lanes[l*stride+i] = byte(x >> (8 * l))
				}
			}
			clear(got)
			if integrateFast(&c, got, &lanes[0], stride, count) {
				require.Equal(t, want, got, "%+v", c)
				fastInts++
			}
			c.scale = r.IntN(maxScale + 1)
			divided := make([]float64, n)
			for i, k := range want {
				divided[i] = float64(k) / pow10[c.scale]
			}
			clear(gotFloats)
			if integrateFast(&c, gotFloats, &lanes[0], stride, count) {
				require.True(t, c.divided)
				requireSameBits(t, divided, gotFloats)
				fastFloats[count-1]++
			} else {
				require.False(t, c.divided)
			}
		}
		if width <= 16 {
			clear(got)
			integratePairs(&c, got, low, high)
			require.Equal(t, want, got)
			integratePairs(&c, gotFloats, low, high)
			require.Equal(t, floats, gotFloats)
		}
		if width <= 8 {
			clear(got)
			integrateBytes(&c, got, low)
			require.Equal(t, want, got)
			integrateBytes(&c, gotFloats, low)
			require.Equal(t, floats, gotFloats)
		}
	}
	if useAVX2 {
		require.Greater(t, fastInts, 400)
		for _, n := range fastFloats {
			require.Greater(t, n, 50)
		}
	}
}

func requireSameBits(t *testing.T, want, got []float64) {
	t.Helper()
	for i := range want {
		require.Equal(t, math.Float64bits(want[i]), math.Float64bits(got[i]), "%d of %d: %v, %v", i, len(want), want[i], got[i])
	}
}

// TestRamp: of every length and steepness, and nothing behind its end.
func TestRamp(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	for i := range 2000 {
		n := i % 100
		x, step := r.Int64()>>r.IntN(64), r.Int64()>>r.IntN(64)
		ints, floats, same := make([]int64, n+16), make([]float64, n+16), make([]float64, n+16)
		ramp(ints[:n], x, step)
		ramp(floats[:n], x, step)
		repeat(same[:n], float64(x))
		for i := range n {
			require.Equal(t, x+int64(i)*step, ints[i])
			require.Equal(t, math.Float64bits(float64(x+int64(i)*step)), math.Float64bits(floats[i]))
			require.Equal(t, float64(x), same[i])
		}
		require.Equal(t, make([]int64, 16), ints[n:])
		require.Equal(t, make([]float64, 16), floats[n:])
		require.Equal(t, make([]float64, 16), same[n:])
	}
}

// TestIncreasing finds what is out of order wherever it is.
func TestIncreasing(t *testing.T) {
	for n := 1; n < 50; n++ {
		times := make([]int64, n)
		for i := range times {
			times[i] = math.MinInt64 + int64(i)*(math.MaxInt64/25)
		}
		require.True(t, increasing(times))
		for i := 1; i < n; i++ {
			was := times[i]
			times[i] = times[i-1]
			require.False(t, increasing(times), "%d of %d", i, n)
			times[i] = math.MinInt64
			require.False(t, increasing(times), "%d of %d", i, n)
			times[i] = was
		}
	}
}

// TestChecksum: of rows of every length, wherever they begin.
func TestChecksum(t *testing.T) {
	r := rand.New(rand.NewPCG(35, 36))
	b := make([]byte, 700)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	for n := range 600 {
		row := b[n%9:][:n]
		require.Equal(t, crc32.Checksum(row, castagnoli), checksum(row), n)
	}
}

// TestUntangleLong: planes of any length, each somewhere else.
func TestUntangleLong(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 34))
	for groups := 1; groups <= maxBlock/8; groups++ {
		var planes [8][]byte
		used := 1 + r.IntN(8)
		for p := range planes {
			planes[p] = zeroPlane[:]
			if p < used && r.IntN(8) > 0 {
				at := r.IntN(32)
				b := make([]byte, at+(groups+7)&^7)
				for i := range b {
					b[i] = byte(r.Uint32())
				}
				planes[p] = b[at:]
			}
		}
		var lane [maxBlock]byte
		untangle(&planes, &lane, groups, used <= 4)
		for i := range 8 * groups {
			want := byte(0)
			for p := range planes {
				want |= planes[p][i/8] >> (i % 8) & 1 << p
			}
			require.Equal(t, want, lane[i])
		}
		for i, x := range lane[(groups+7)&^7*8:] {
			require.Zero(t, x, "%d behind the end", i)
		}
	}
}

// TestUntangle: bit i of plane p is bit p of residual i.
func TestUntangle(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	for range 1000 {
		var planes [8]uint64
		used := 1 + r.IntN(8)
		for p := range used {
			planes[p] = r.Uint64()
		}
		var want, got [64]byte
		for i := range want {
			for p := range planes {
				want[i] |= byte(planes[p]>>i&1) << p
			}
		}
		untangleWords(&planes, &got)
		require.Equal(t, want, got)
		again := [8]uint64{}
		for i := range again {
			again[i] = word(got[8*i:])
		}
		words := again
		tangleWords(&again)
		require.Equal(t, planes, again)
		if useAVX2 {
			keep := r.Uint64()
			tangleAVX2(&words, &words, keep)
			for p := range again {
				again[p] &= keep
			}
			require.Equal(t, again, words)
			clear(again[:])
		}
		clear(got[:])
		untangleUpTo(&planes, &got, 8, used)
		require.Equal(t, want, got)
		if used <= 4 {
			clear(got[:])
			untangleNarrow(&planes, &got)
			require.Equal(t, want, got)
		}
		clear(got[:])
		untangleShort(&planes, &got)
		require.Equal(t, want[:32], got[:32])
		clear(again[:])
		for i := range 4 {
			again[i] = word(got[8*i:])
		}
		var short [8]uint64
		tangleShort(&again, &short)
		for p := range planes {
			planes[p] &= low32
		}
		require.Equal(t, planes, short)
	}
}

// TestWiden: byte i of lane l is byte l of residual i.
func TestWiden(t *testing.T) {
	r := rand.New(rand.NewPCG(19, 20))
	var s scratch
	for lanes := range 9 {
		for l := range s.lanes { // also of those that do not count
			for i := range s.lanes[l] {
				s.lanes[l][i] = byte(r.Uint32())
			}
		}
		for _, n := range []int{1, 7, 8, 9, 100, maxBlock} {
			want := make([]uint64, n)
			lane := s.lanes
			for i := range want {
				for l := range lanes {
					want[i] |= uint64(lane[l][i]) << (8 * l)
				}
			}
			s.widen(lanes, n)
			require.Equal(t, want, s.x[:n])
			s.lanes = lane
		}
	}
}

// TestSpreadOut: what is stored of sparse columns goes where it belongs, in both ways.
func TestSpreadOut(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	var s scratch
	for range 2000 {
		n, some := 1+r.IntN(300), r.Float64()
		want := make([]uint64, n)
		var at []uint16
		clear(s.presence[:(n+7)/8])
		for i := range want {
			if r.Float64() < some {
				want[i] = 1 + r.Uint64N(100)
				s.presence[i/8] |= 1 << (i % 8)
				s.x[len(at)] = want[i] - 1
				at = append(at, uint16(i))
			}
		}
		require.Equal(t, len(at), setBits(&s.at, s.presence[:(n+7)/8]))
		require.ElementsMatch(t, at, s.at[:len(at)])
		s.spreadOut(n, len(at))
		require.Equal(t, want, s.x[:n])
	}
}

// TestWords: what is behind the end of the bytes is zero.
func TestWords(t *testing.T) {
	b := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9}
	for n := range len(b) + 1 {
		var low, high uint64
		for i := range min(n, 8) {
			low |= uint64(b[i]) << (8 * i)
			high |= uint64(b[i]) << (56 - 8*i)
		}
		require.Equal(t, low, word(b[:n]))
		require.Equal(t, high, firstWord(b[:n]))
	}
}
