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
	columnTime  columnType = iota // base is the first timestamp of the block, not stored again
	columnStart                   // base is stored relative to that
	columnValue
)

// plan is one way to write a column.
type plan struct {
	kind   int
	zigzag bool
	base   int64 // in units, relative to the first k; the whole first k for kindXOR
	slope  int64 // in units
	unit   uint64
	cost   int // bytes, estimated
	width  int // planes
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
	case col == columnTime:
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
	if len(e.special) > 0 {
		dst = e.appendSpecials(dst)
	}
	return dst
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

	step := e.median(k, 1)
	if col == columnTime {
		e.tryDelta(k, unit, step, true, &best)
		if best.cost > 4 {
			e.tryLine(k, unit, step, &best)
		}
	} else {
		e.tryLevel(k, unit, e.median(k, 0), true, &best)
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

// median returns about the median of the differences of the given order (0 or
// 1) of k, judged by a few of them.
func (e *Encoder) median(k []int64, order int) int64 {
	var buf [15]int64
	s := buf[:0]
	m := len(k) - order
	if m <= 0 {
		return 0
	}
	c := min(m, len(buf))
	for j := range c {
		i := order + j*m/c
		if order == 1 {
			s = append(s, k[i]-k[i-1])
		} else {
			s = append(s, k[i])
		}
	}
	slices.Sort(s)
	return s[c/2]
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
	e.offer(plan{kind: kindLine, zigzag: true, slope: slope, unit: unit}, len(k), best)
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
	groups := int32(n+7) / 8
	masks := (groups + 7) / 8
	masks2 := (masks + 7) / 8

	// Cost of the planes below p, in 1/1024 bytes.
	var below [65]int32
	var above [65]int32 // residuals longer than p bits
	above[64] = 0
	for p := 63; p >= 0; p-- {
		above[p] = above[p+1] + lens[p+1]
	}
	for p := range top {
		ones := lens[p+1] + above[p+1]/2
		if ones == 0 && above[p] > 0 {
			ones = 1
		}
		nonzero := min(groups*filled8[ones*64/int32(n)], ones*1024)
		if ones*64 < int32(n) {
			nonzero = ones * 1024
		}
		mask := min(masks*filled64[ones*64/int32(n)], nonzero)
		if ones*64 < int32(n) {
			mask = min(masks*1024, nonzero)
		}
		c := min(groups<<10, nonzero+masks<<10, nonzero+mask+masks2<<10)
		below[p+1] = below[p] + c + 256
	}
	best := below[top]
	width = top
	exceptions := int32(0) // cost
	for w := top - 1; w >= 0; w-- {
		count := above[w]
		if count*8 > int32(n) {
			break
		}
		// Every exception that is there gets longer by one bit: a byte per
		// seven, and two bytes for a new one.
		exceptions = 2 << 10
		for b := w + 1; b <= top; b++ {
			exceptions += lens[b] << 10 * int32(1+(b-w+6)/7)
		}
		if c := below[w] + exceptions; c < best {
			best, width = c, w
		}
	}
	return int(best+1023) >> 10, width
}
