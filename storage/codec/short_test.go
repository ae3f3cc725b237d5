package codec

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestShortPlanes: bit i of plane p is bit p of residual i, both where the planes are made of the lowest
// bytes and where of more, and they read back.
func TestShortPlanes(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	var s short
	for range 5000 {
		top := r.IntN(65)
		s.m = 1 + r.IntN(codedRow-1)
		for i := range s.x { // also what is behind the residuals
			s.x[i], s.lane[i] = r.Uint64(), byte(r.Uint32())
		}
		for i := range s.m {
			s.x[i] = s.x[i] >> (64 - top) & -(r.Uint64N(8) + 7>>3)
			s.lane[i] = byte(s.x[i])
		}
		s.pad()
		s.makePlanes(top)
		for p := range top {
			want := uint64(0)
			for i, x := range s.x[:s.m] {
				want |= x >> p & 1 << i
			}
			require.Equal(t, want, s.planes[p], "plane %d of %d", p, top)
		}
		prefix := make([]byte, r.IntN(3), 3+r.IntN(200))
		row := s.appendPlanes(slices.Clone(prefix), top)
		var in scratch
		in.version = version1
		rd := reader{b: row[len(prefix):]}
		require.NoError(t, in.dense(&rd, top, s.m))
		require.Empty(t, rd.b)
		in.widen((top+7)/8, s.m)
		require.Equal(t, s.x[:s.m], in.x[:s.m])
	}
}

// TestShortCost: what a plan is said to take is what it takes.
func TestShortCost(t *testing.T) {
	r := rand.New(rand.NewPCG(25, 26))
	var e Encoder
	e.version = version1
	for range 20000 {
		n, top := 2+r.IntN(codedRow-2), r.IntN(exactTop+1)
		e.chosen, e.tried, e.spare = &e.shorts[0], &e.shorts[1], &e.shorts[2]
		some, few := r.Float64(), top-r.IntN(top+1)
		want := make([]uint64, n)
		for i := range want {
			if r.Float64() < some {
				want[i] = r.Uint64() >> (64 - few)
			}
		}
		if r.IntN(3) == 0 {
			want[r.IntN(n)] = r.Uint64() >> (64 - top)
		}
		copy(e.tried.x[:], want)
		best := plan{cost: 1 << 30}
		e.offerShort(plan{kind: kindLevel}, n, &best)
		s := e.settle(&best)

		dst := make([]byte, 0, 8)
		ext := 0
		if best.sparse {
			dst, ext = s.appendPresence(dst, n), 1
		}
		got := len(s.appendPlanes(dst, best.width))
		exceptions := 0
		for _, x := range s.x[:s.m] {
			if high := x >> best.width; high != 0 {
				got += 1 + UvarintLen(high)
				exceptions++
			}
		}
		if exceptions > 0 {
			got++ // their number
			if ext == 0 {
				got++
			}
		}
		got += ext
		if best.sparse && exceptions > 0 {
			got++ // counted twice: it is one byte for both
		}
		require.Equal(t, best.cost, got, "%d residuals %v: %+v", n, want, best)

		all := make([]uint64, 0, n)
		j := 0
		for i := range n {
			switch {
			case !best.sparse:
				all = append(all, s.x[i])
			case s.presence>>i&1 != 0:
				all = append(all, s.x[j]+1)
				j++
			default:
				all = append(all, 0)
			}
		}
		require.Equal(t, want, all)
	}
}

// TestMedians: of seven, in any order, and of more about.
func TestMedians(t *testing.T) {
	p := []int64{1, 2, 3, 4, 5, 6, 7}
	var permute func(i int)
	permute = func(i int) {
		if i == len(p) {
			if got := medianOf7(p[0], p[1], p[2], p[3], p[4], p[5], p[6]); got != 4 {
				t.Fatalf("median of %v is %d", p, got)
			}
			return
		}
		for j := i; j < len(p); j++ {
			p[i], p[j] = p[j], p[i]
			permute(i + 1)
			p[i], p[j] = p[j], p[i]
		}
	}
	permute(0)
	// Up to a third of the numbers, and of their differences, may be anything.
	r := rand.New(rand.NewPCG(27, 28))
	for n := 2; n <= maxBlock; n += 1 + n/3 {
		k := make([]int64, n)
		for i := range k {
			k[i] = int64(i) * 100
		}
		at, step := median(k), medianStep(k)
		require.Equal(t, int64(100), step)
		require.LessOrEqual(t, at, k[n*3/4])
		require.GreaterOrEqual(t, at, k[n/4])
		if n >= 64 {
			for range n / 10 {
				k[r.IntN(n)] += r.Int64N(1 << 40)
			}
			require.Equal(t, int64(100), medianStep(k))
		}
	}
}

// TestScales: the smallest scale is found as if each was tried.
func TestScales(t *testing.T) {
	r := rand.New(rand.NewPCG(29, 30))
	reference := func(v float64, from int) int {
		if math.IsNaN(v) || math.IsInf(v, 0) || v == 0 && math.Signbit(v) {
			return -1
		}
		for s := from; s <= maxScale; s++ {
			if math.Abs(v)*pow10[s] >= maxExact {
				return -1
			}
			if _, ok := decimal(v, s); ok {
				return s
			}
		}
		return -1
	}
	check := func(v float64) {
		for _, v := range []float64{v, -v, math.Nextafter(v, math.Inf(1)), math.Nextafter(v, math.Inf(-1))} {
			for _, from := range []int{0, 1, r.IntN(maxScale + 2)} {
				if want, got := reference(v, from), smallestScale(v, from); want != got {
					t.Fatalf("the smallest scale of %v from %d on is %d, not %d", v, from, want, got)
				}
			}
			k, ok := decimal(v, 0)
			got, gotOK := integer(v)
			if ok != gotOK || ok && k != got {
				t.Fatalf("%v is the integer %d %v, not %d %v", v, k, ok, got, gotOK)
			}
		}
	}
	for _, v := range []float64{0, 1, 0.1, 1 << 53, 1<<53 - 1, 1 << 50, 1<<50 - 1, 1 << 63, 1 << 64, math.MaxFloat64, math.SmallestNonzeroFloat64, math.NaN(), math.Inf(1)} {
		check(v)
	}
	for range 30000 {
		check(float64(r.Int64()>>r.IntN(63)) / pow10[r.IntN(maxScale+1)])
		check(math.Float64frombits(r.Uint64()))
		check(r.Float64())
		// At the borders of what is safe.
		check(float64(int64(1)<<(48+r.IntN(6))-r.Int64N(1000)) / pow10[r.IntN(maxScale+1)])
	}
}

// TestIncreases: regular timestamps that do not increase are found as others are.
func TestIncreases(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	for range 200000 {
		n := 2 + r.IntN(20)
		first, step := int64(r.Uint64()), int64(r.Uint64())>>r.IntN(64)
		ts := make([]int64, n)
		for i := range ts {
			ts[i] = first + int64(i)*step
		}
		if (firstDisorder(ts) < 0) != increases(ts[0], ts[1], n) {
			t.Fatalf("%v", ts)
		}
	}
}

// TestOnesOfBytes: the masks of planes in words are those of their bytes.
func TestOnesOfBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 34))
	for range 10000 {
		w := r.Uint64() & r.Uint64() & r.Uint64() & r.Uint64()
		want := uint64(0)
		for i := range 8 {
			if byte(w>>(8*i)) != 0 {
				want |= 0x80 << (8 * i)
			}
		}
		require.Equal(t, want, someBytes(w))
		require.Equal(t, min(1+bits.OnesCount64(want), 5), planeBytes(w, 5))
	}
}
