package codec

import (
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/codec/codectest"
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

// TestShortLane: each way to store a plane reads as the bits that it stands for, and what is cut off
// or malformed is told from what is not.
func TestShortLane(t *testing.T) {
	r := rand.New(rand.NewPCG(35, 36))
	for range 30000 {
		width, groups := 1+r.IntN(8), 1+r.IntN(8)
		var want [64]byte
		var row []byte
		how := uint(0)
		for p := range width {
			plane := make([]byte, groups)
			mask := byte(0)
			var some []byte
			for g := range plane {
				if r.IntN(3) > 0 {
					plane[g] = byte(r.Uint32())
				}
				if plane[g] != 0 {
					mask |= 1 << g
					some = append(some, plane[g])
				}
				for i := range 8 {
					want[8*g+i] |= plane[g] >> i & 1 << p
				}
			}
			kind := 1 + r.IntN(3)
			if mask == 0 && r.IntN(2) == 0 {
				kind = planeZero
			}
			switch kind {
			case planeRaw:
				row = append(row, plane...)
			case planeMask:
				row = append(append(row, mask), some...)
			case planeMask2:
				if mask == 0 {
					row = append(row, 0)
				} else {
					row = append(append(row, 1, mask), some...)
				}
			}
			how |= uint(kind) << (2 * p)
		}
		before, after := r.IntN(4), r.IntN(12)
		b := append(append(make([]byte, before), row...), make([]byte, after)...)
		var got [64]byte
		require.Equal(t, before+len(row), shortLane(b, before, how, width, groups, &got))
		require.Equal(t, want[:8*groups], got[:8*groups])
		if len(row) > 0 {
			require.Equal(t, -1, shortLane(b[:before+r.IntN(len(row))], before, how, width, groups, &got))
		}
	}
	var lane [64]byte
	require.Equal(t, -1, shortLane([]byte{0x80, 1, 1}, 0, planeMask, 1, 3, &lane), "a mask of more bytes than there are")
	require.Equal(t, -1, shortLane([]byte{2, 1, 1, 1}, 0, planeMask2, 1, 3, &lane), "more masks than there are")
}

// TestRegularRows: rows, sound or not, that are read by the short way are what the long way makes of them.
func TestRegularRows(t *testing.T) {
	r := rand.New(rand.NewPCG(37, 38))
	corpus := codectest.Corpus(5, benchSeries/2, 240)
	read, refused := 0, 0
	for range 20000 {
		s := corpus[r.IntN(len(corpus))]
		lo := r.IntN(200)
		n := 1 + r.IntN(40)
		row := Append(nil, steps(r.Int64N(1<<41), n, func(int) int64 { return 15000 }), s.V[lo:lo+n], nil)
		body := row[:len(row)-checksumLen]
		for range r.IntN(3) {
			body[r.IntN(len(body))] = byte(r.Uint32() >> r.IntN(32))
		}
		if r.IntN(4) == 0 {
			body = body[:2+r.IntN(len(body)-1)]
		}
		mint, maxt := int64(math.MinInt64), int64(math.MaxInt64)
		if r.IntN(4) == 0 {
			mint, maxt = r.Int64N(1<<41), r.Int64N(1<<41)
		}
		var got, want Columns
		done := false
		var err error
		if body[0]&0xf == flagRegular {
			done, err = got.decodeRegular(body, mint, maxt)
		}
		if !done {
			require.Empty(t, got.T)
			require.Empty(t, got.V)
			continue
		}
		rd := reader{b: body}
		var h header
		require.NoError(t, rd.floatHeader(&h))
		d := decoder{version: h.version}
		wantErr := want.decodeBlocks(&d, rd, &h, mint, maxt)
		d.close()
		require.Equal(t, wantErr == nil, err == nil, "%v, %v: %x", wantErr, err, body)
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			require.Empty(t, got.T)
			require.Empty(t, got.V)
			refused++
			continue
		}
		requireSame(t, want.T, want.V, nil, &got)
		read++
	}
	require.Greater(t, read, 1000)
	require.Greater(t, refused, 1000)
}

// TestUvarints: both readers take what encoding/binary takes.
func TestUvarints(t *testing.T) {
	r := rand.New(rand.NewPCG(39, 40))
	for range 100000 {
		b := make([]byte, r.IntN(4), 24)
		at := len(b)
		b = binary.AppendUvarint(b, r.Uint64()>>r.IntN(64))
		for range r.IntN(10) {
			b = append(b, byte(r.Uint32()))
		}
		if r.IntN(3) == 0 {
			for i := at; i < len(b); i++ {
				b[i] |= 0x80 & byte(r.Uint32())
			}
		}
		b = b[:at+r.IntN(len(b)-at+1)]
		want, n := binary.Uvarint(b[at:])
		rd := reader{b: b[at:]}
		got := rd.uvarint()
		x, end := uvarintAt(b, at)
		if n <= 0 {
			require.True(t, rd.bad)
			require.Greater(t, end, len(b))
			_, end = uvarintAt(b, end)
			require.Greater(t, end, len(b))
			continue
		}
		require.False(t, rd.bad)
		require.Equal(t, []uint64{want, want}, []uint64{got, x})
		require.Equal(t, []int{len(b) - at - n, at + n}, []int{len(rd.b), end})
	}
}
