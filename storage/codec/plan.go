package codec

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// What a column holds decides which kinds are tried and what stands in its
// header.
type columnType int

const (
	columnTime  columnType = iota // base is stored relative to the first timestamp of the block
	columnStart                   // likewise
	columnValue
	columnCorrection // units in the last place, to be added to the bits of a value
)

// plan is one way to write a column.
type plan struct {
	kind   int
	zigzag bool
	base   int64 // in units, relative to the first k; the whole first k for kindXOR
	slope  int64 // in units
	unit   uint64
	cost   int  // bytes, estimated
	width  int  // planes
	sparse bool // store only the residuals that are not zero, less one
}

// appendInts appends a column of timestamps. t0 is what its base is relative to.
func (e *Encoder) appendInts(dst []byte, k []int64, col columnType, t0 int64) []byte {
	e.special = e.special[:0]
	if len(k) > maxBlock { // only a constant column is that long
		dst = append(dst, kindLevel, 0)
		return binary.AppendUvarint(dst, zigzag(k[0]-t0))
	}
	copy(e.k[:], k)
	return e.appendColumn(dst, len(k), col, 0, t0)
}

// appendColumn appends the column of the n integers in e.k and the special
// values in e.special.
func (e *Encoder) appendColumn(dst []byte, n int, col columnType, scale int, t0 int64) []byte {
	k := e.k[:n]
	first := k[0]
	p := e.choose(k, col, scale)

	head := byte(p.kind) | byte(scale)<<headerScaleShift
	if p.zigzag {
		head |= headerZigzag
	}
	u := e.best[:n]
	if p.sparse {
		u = e.compact(u)
	}
	exceptions := 0
	if p.width < 64 {
		for _, x := range u {
			if x>>p.width != 0 {
				exceptions++
			}
		}
	}
	var ext byte
	if p.unit > 1 {
		ext |= extUnit
	}
	if exceptions > 0 {
		ext |= extExceptions
	}
	if len(e.special) > 0 {
		ext |= extSpecials
	}
	if p.sparse {
		ext |= extSparse
	}
	if e.ulps != nil {
		ext |= extCorrected
	}
	if ext != 0 {
		dst = append(dst, head, byte(p.width)|headerExtended, ext)
	} else {
		dst = append(dst, head, byte(p.width))
	}
	base := first
	if p.kind != kindXOR {
		base += p.base * int64(p.unit)
	}
	switch {
	case scale == scaleBits:
		dst = binary.BigEndian.AppendUint64(dst, uint64(base))
	default:
		dst = binary.AppendUvarint(dst, zigzag(base-t0))
	}
	if hasSlope(p.kind) {
		dst = binary.AppendUvarint(dst, zigzag(p.slope*int64(p.unit)))
	}
	if p.unit > 1 {
		dst = binary.AppendUvarint(dst, p.unit)
	}
	if p.sparse {
		at := len(dst)
		dst = append(dst, 0)
		var kind byte
		dst, kind = appendPlane(dst, e.presence[:(n+7)/8])
		dst[at] = kind
	}
	dst = e.appendPlanes(dst, u, p.width)
	if exceptions > 0 {
		dst = binary.AppendUvarint(dst, uint64(exceptions))
		next := 0
		for i, x := range u {
			if high := x >> p.width; high != 0 {
				dst = binary.AppendUvarint(dst, uint64(i-next))
				dst = binary.AppendUvarint(dst, high)
				next = i + 1
			}
		}
	}
	if e.ulps != nil {
		copy(e.k[:], e.ulps)
		specials := e.special
		e.ulps, e.special = nil, nil
		dst = e.appendColumn(dst, n, columnCorrection, 0, 0)
		e.special = specials
	}
	if len(e.special) > 0 {
		dst = e.appendSpecials(dst)
	}
	return dst
}

// compact moves the residuals that are not zero, less one, to the front of u
// and returns them. It notes in e.presence where they were.
func (e *Encoder) compact(u []uint64) []uint64 {
	clear(e.presence[:(len(u)+7)/8])
	m := 0
	for i, x := range u {
		if x != 0 {
			e.presence[i/8] |= 1 << (i % 8)
			u[m] = x - 1
			m++
		}
	}
	return u[:m]
}

func hasSlope(kind int) bool { return kind == kindDelta || kind == kindDelta2 || kind == kindLine }

// choose finds the cheapest plan for k and leaves its residuals in e.best. It
// overwrites k with (k[i]-k[0]) / unit.
func (e *Encoder) choose(k []int64, col columnType, scale int) plan {
	n := len(k)
	e.best, e.trial = &e.x, &e.try
	best := plan{cost: 1 << 30, unit: 1}

	if scale == scaleBits {
		e.tryXOR(k, &best)
	}
	unit := divide(k)
	e.bridgeSpecials(k)

	step := int64(0)
	if n > 1 {
		step = median(n-1, func(i int) int64 { return k[i+1] - k[i] })
	}
	if col == columnTime {
		e.tryDelta(k, unit, step, true, &best)
		if best.cost > 4 {
			// The median of the steps is right when some are longer, the mean
			// when all are a little off.
			e.tryLine(k, unit, step, &best)
			if mean := roundedMean(k); mean != step {
				e.tryLine(k, unit, mean, &best)
			}
		}
	} else {
		e.tryLevel(k, unit, median(n, func(i int) int64 { return k[i] }), true, &best)
		e.tryDelta(k, unit, step, true, &best)
		if best.cost > 4 {
			least, leastStep := k[0], int64(0)
			for i := 1; i < n; i++ {
				least = min(least, k[i])
				if d := k[i] - k[i-1]; i == 1 || d < leastStep {
					leastStep = d
				}
			}
			e.tryLevel(k, unit, least, false, &best)
			e.tryDelta(k, unit, leastStep, false, &best)
		}
	}
	if best.cost > 4 {
		e.tryDelta2(k, unit, step, &best)
	}
	return best
}

// divide replaces k[i] by (k[i]-k[0]) / unit for the greatest unit that
// divides all of them, and returns that. Arithmetic is modulo 2^64, as the
// decoder's is.
func divide(k []int64) uint64 {
	first := k[0]
	var or uint64
	for i, x := range k {
		k[i] = x - first
		or |= uint64(x - first)
	}
	if or == 0 {
		return 1
	}
	shift := bits.TrailingZeros64(or)
	var odd uint64
	for _, x := range k {
		x >>= shift
		if x == 0 {
			continue
		}
		a := uint64(max(x, -x))
		if odd == 0 {
			odd = a >> bits.TrailingZeros64(a)
		} else if a%odd != 0 {
			odd = gcd(odd, a)
		}
		if odd == 1 {
			break
		}
	}
	if odd>>63 != 0 || bits.Len64(odd)+shift > 63 {
		odd = 1 // the unit must fit in int64 for the division below
	}
	if shift > 62 {
		shift = 0
	}
	switch {
	case odd > 1:
		unit := int64(odd << shift)
		for i := range k {
			k[i] /= unit
		}
	case shift > 0:
		for i := range k {
			k[i] >>= shift
		}
	}
	return odd << shift
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// roundedMean returns the mean difference of neighbours, at least two.
func roundedMean(k []int64) int64 {
	n := int64(len(k) - 1)
	return (k[n] - k[0] + n/2) / n
}

// median returns about the median of n integers, judged by a few of them.
func median(n int, at func(i int) int64) int64 {
	var buf [15]int64
	s := buf[:min(n, len(buf))]
	for j := range s {
		s[j] = at(j * n / len(s))
	}
	slices.Sort(s)
	return s[len(s)/2]
}

func (e *Encoder) tryLevel(k []int64, unit uint64, base int64, zz bool, best *plan) {
	u := e.trial[:len(k)]
	for i, x := range k {
		u[i] = uint64(x - base)
	}
	e.offer(plan{kind: kindLevel, zigzag: zz, base: base, unit: unit}, len(k), best)
}

func (e *Encoder) tryDelta(k []int64, unit uint64, slope int64, zz bool, best *plan) {
	u := e.trial[:len(k)]
	u[0] = 0
	for i := 1; i < len(k); i++ {
		u[i] = uint64(k[i] - k[i-1] - slope)
	}
	e.offer(plan{kind: kindDelta, zigzag: zz, slope: slope, unit: unit}, len(k), best)
}

func (e *Encoder) tryDelta2(k []int64, unit uint64, slope int64, best *plan) {
	if len(k) < 3 {
		return
	}
	slope = k[1] - k[0]
	u := e.trial[:len(k)]
	u[0] = 0
	d := slope
	for i := 1; i < len(k); i++ {
		next := k[i] - k[i-1]
		u[i] = uint64(next - d)
		d = next
	}
	e.offer(plan{kind: kindDelta2, zigzag: true, slope: slope, unit: unit}, len(k), best)
}

func (e *Encoder) tryLine(k []int64, unit uint64, slope int64, best *plan) {
	u := e.trial[:len(k)]
	line := int64(0)
	for i, x := range k {
		u[i] = uint64(x - line)
		line += slope
	}
	base := median(len(k), func(i int) int64 { return int64(u[i]) })
	for i := range u {
		u[i] -= uint64(base)
	}
	e.offer(plan{kind: kindLine, zigzag: true, base: base, slope: slope, unit: unit}, len(k), best)
}

func (e *Encoder) tryXOR(k []int64, best *plan) {
	u := e.trial[:len(k)]
	u[0] = 0
	var or uint64
	for i := 1; i < len(k); i++ {
		u[i] = uint64(k[i] ^ k[i-1])
		or |= u[i]
	}
	unit := uint64(1)
	if or != 0 {
		shift := bits.TrailingZeros64(or)
		unit <<= shift
		for i := range u {
			u[i] >>= shift
		}
	}
	e.offer(plan{kind: kindXOR, unit: unit}, len(k), best)
}

// offer estimates the cost of p, whose residuals are in e.trial, not yet
// zigzag encoded, and makes it the best if it is cheaper.
func (e *Encoder) offer(p plan, n int, best *plan) {
	u := e.trial[:n]
	var lens [65]int32
	if p.zigzag {
		for i, x := range u {
			z := zigzag(int64(x))
			u[i] = z
			lens[bits.Len64(z)]++
		}
	} else {
		for _, x := range u {
			lens[bits.Len64(x)]++
		}
	}
	p.cost, p.width = estimate(&lens, n)
	if zeros := int(lens[0]); zeros > n/4 && p.width > 1 {
		// One plane of presence, and the rest as if there were no zeros.
		m := n - zeros
		lens[0] = 0
		c, w := estimate(&lens, m)
		if c += 2 + int(planeCost(int32(m), int32(n))>>10); c < p.cost {
			p.cost, p.width, p.sparse = c, w, true
		}
	}
	if hasSlope(p.kind) {
		p.cost++
	}
	if p.cost < best.cost {
		*best = p
		e.best, e.trial = e.trial, e.best
	}
}

// filled[q] is the share, in 1/1024, of groups of 8 (filled8) or 64 (filled64)
// in which at least one of the bits is set, when q/64 of all bits are.
var filled8, filled64 = func() (f8, f64 [65]int32) {
	for q := range f8 {
		empty := 1.0
		for range 8 {
			empty *= 1 - float64(q)/64
		}
		f8[q] = int32(1024 * (1 - empty))
		empty8 := empty
		for range 7 {
			empty *= empty8
		}
		f64[q] = int32(1024 * (1 - empty))
	}
	return f8, f64
}()

// planeCost estimates the size in 1/1024 bytes of a plane of n bits of which
// some are set.
func planeCost(ones, n int32) int32 {
	groups := (n + 7) / 8
	masks := (groups + 7) / 8
	masks2 := (masks + 7) / 8
	q := ones * 64 / n
	nonzero, mask := ones<<10, ones<<10
	if q > 0 {
		nonzero = min(nonzero, groups*filled8[q])
		mask = min(mask, masks*filled64[q])
	} else {
		nonzero = min(nonzero, groups<<10)
		mask = min(mask, masks<<10)
	}
	return min(groups<<10, masks<<10+nonzero, masks2<<10+mask+nonzero)
}

// estimate returns about how many bytes n residuals take, and in how many
// planes, given how many residuals have which length in bits.
func estimate(lens *[65]int32, n int) (cost, width int) {
	top := 64
	for top > 0 && lens[top] == 0 {
		top--
	}
	if top == 0 {
		return 0, 0
	}
	var above [65]int32 // residuals longer than p bits
	for p := top - 1; p >= 0; p-- {
		above[p] = above[p+1] + lens[p+1]
	}
	// Cost of the planes below p, in 1/1024 bytes, two bits for the kind of
	// each. The highest bit of a residual is set, half of the others are.
	var below [65]int32
	for p := range top {
		ones := max(1, lens[p+1]+above[p+1]/2)
		below[p+1] = below[p] + planeCost(ones, int32(n)) + 256
	}
	best := below[top]
	width = top
	for w := top - 1; w >= 0 && above[w]*8 <= int32(n); w-- {
		// A list of exceptions costs two bytes, an exception one and a byte for
		// every seven bits.
		exceptions := int32(2 << 10)
		for b := w + 1; b <= top; b++ {
			exceptions += lens[b] << 10 * int32(1+(b-w+6)/7)
		}
		if c := below[w] + exceptions; c < best {
			best, width = c, w
		}
	}
	return int(best+1023) >> 10, width
}
