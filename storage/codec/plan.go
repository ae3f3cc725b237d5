package codec

import (
	"encoding/binary"
	"math/bits"
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

	e.slides = e.slides || p.kind >= kindSliding
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
		presence, inverted := e.presence[:(n+7)/8], byte(0)
		if e.version == version2 && 2*len(u) > n {
			invert(presence, n)
			inverted = presenceInverted
		}
		var kind byte
		dst, kind = e.appendPlane(dst, presence, n)
		dst[at] = kind | inverted
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

func hasSlope(kind int) bool {
	return kind == kindDelta || kind == kindDelta2 || kind == kindLine || kind >= kindSliding
}

// choose finds the cheapest plan for k and leaves its residuals in e.best. It
// overwrites k with (k[i]-k[0]) / unit.
func (e *Encoder) choose(k []int64, col columnType, scale int) plan {
	e.best, e.trial = &e.x, &e.try
	best := plan{cost: 1 << 30, unit: 1}

	if scale == scaleBits {
		e.tryXOR(k, &best)
	}
	unit := divide(k)
	e.bridgeSpecials(k)
	if len(k) == 1 {
		e.tryLevel(k, unit, 0, true, &best)
		return best
	}
	step := medianStep(k)
	if col == columnTime {
		e.tryDelta(k, unit, step, true, &best)
		// The median of the steps is right when some are longer, the mean
		// when all are a little off.
		e.tryLine(k, unit, step, &best)
		if mean := roundedMean(k); mean != step {
			e.tryLine(k, unit, mean, &best)
		}
		e.tryDelta2(k, unit, &best)
		return best
	}

	// The lengths of all residuals, in bits, show which kinds are worth a try.
	middle := median(k)
	s := scan(k, middle, step)
	limit := min(s.level, s.delta, s.delta2)
	limit += limit / 8
	if s.level <= limit {
		e.tryLevel(k, unit, middle, true, &best)
		if promising(s.greatest-s.least, len(k), best.cost) {
			e.tryLevel(k, unit, s.least, false, &best)
		}
	}
	if s.delta <= limit {
		e.tryDelta(k, unit, step, true, &best)
		if promising(s.greatestStep-s.leastStep, len(k), best.cost) {
			e.tryDelta(k, unit, s.leastStep, false, &best)
		}
	}
	if s.delta2 <= limit {
		e.tryDelta2(k, unit, &best)
	}
	// Where the rate of a counter wanders, the best guess of it lies between the
	// last difference and the mean of all.
	if n := len(k); e.version == version2 && unit == 1 && scale != scaleBits && (best.kind == kindDelta || best.kind == kindDelta2) &&
		!best.sparse && s.delta > n && s.delta2 > n && s.delta2 <= s.delta+n/2 {
		if shift, bits := scanSliding(k, step); bits < min(s.delta, s.delta2) {
			e.trySliding(k, step, shift, &best)
		}
	}
	return best
}

// scanSliding returns the s of kindSliding that has the shortest residuals, and
// their lengths in bits.
func scanSliding(k []int64, slope int64) (shift uint, length int) {
	a1, a2, a3 := slope<<1, slope<<2, slope<<3
	l1, l2, l3 := 0, 0, 0
	for i := 1; i < len(k); i++ {
		d := k[i] - k[i-1]
		x1, x2, x3 := d-a1>>1, d-a2>>2, d-a3>>3
		a1 += x1
		a2 += x2
		a3 += x3
		l1 += bits.Len64(zigzag(x1))
		l2 += bits.Len64(zigzag(x2))
		l3 += bits.Len64(zigzag(x3))
	}
	switch {
	case l1 <= l2 && l1 <= l3:
		return 1, l1
	case l2 <= l3:
		return 2, l2
	default:
		return 3, l3
	}
}

func (e *Encoder) trySliding(k []int64, slope int64, shift uint, best *plan) {
	u := e.trial[:len(k)]
	u[0] = 0
	a := slope << shift
	for i := 1; i < len(k); i++ {
		x := k[i] - k[i-1] - a>>(shift&3)
		a += x
		u[i] = uint64(x)
	}
	e.offer(plan{kind: kindSliding + int(shift) - 1, zigzag: true, slope: slope, unit: 1}, len(k), best)
}

// spread is what a first look at a column shows.
type spread struct {
	level, delta, delta2    int // bits of all residuals of these kinds, zigzag encoded
	least, greatest         int64
	leastStep, greatestStep int64
}

func scan(k []int64, middle, step int64) spread {
	d := k[1] - k[0]
	s := spread{
		least: min(k[0], k[1]), greatest: max(k[0], k[1]), leastStep: d, greatestStep: d,
		level: bits.Len64(zigzag(k[0]-middle)) + bits.Len64(zigzag(k[1]-middle)),
		delta: bits.Len64(zigzag(d - step)),
	}
	for i := 2; i < len(k); i++ {
		x := k[i]
		next := x - k[i-1]
		s.level += bits.Len64(zigzag(x - middle))
		s.delta += bits.Len64(zigzag(next - step))
		s.delta2 += bits.Len64(zigzag(next - d))
		d = next
		s.least, s.greatest = min(s.least, x), max(s.greatest, x)
		s.leastStep, s.greatestStep = min(s.leastStep, d), max(s.greatestStep, d)
	}
	return s
}

// promising reports whether residuals above the least of them may be cheaper
// than cost. span is the greatest.
func promising(span int64, n, cost int) bool {
	return bits.Len64(uint64(span))*n/8 <= cost+cost/4
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

// sampleSize is the number of integers by which medians of n are judged.
func sampleSize(n int) int {
	if n < 64 {
		return min(n, 7)
	}
	return 15
}

// median returns about the median of k.
func median(k []int64) int64 {
	var buf [15]int64
	s := buf[:sampleSize(len(k))]
	for j, at := 0, 0; j < len(s); j, at = j+1, at+len(k) {
		insertSorted(s, j, k[at/len(s)])
	}
	return s[len(s)/2]
}

// medianStep returns about the median of the differences of neighbours in k.
func medianStep(k []int64) int64 {
	var buf [15]int64
	n := len(k) - 1
	s := buf[:sampleSize(n)]
	for j := range s {
		at := j * n / len(s)
		insertSorted(s, j, k[at+1]-k[at])
	}
	return s[len(s)/2]
}

// insertSorted inserts x into s[:n], which is sorted.
func insertSorted(s []int64, n int, x int64) {
	for n > 0 && s[n-1] > x {
		s[n] = s[n-1]
		n--
	}
	s[n] = x
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

func (e *Encoder) tryDelta2(k []int64, unit uint64, best *plan) {
	slope := k[1] - k[0]
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
	var buf [15]int64
	s := buf[:sampleSize(len(u))]
	for j := range s {
		insertSorted(s, j, int64(u[j*len(u)/len(s)]))
	}
	base := s[len(s)/2]
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
	// Two tables, as counting one up twice in a row waits for itself.
	var lens, more [65]int32
	all, i := uint64(0), 0
	if p.zigzag {
		for ; i+1 < len(u); i += 2 {
			y, z := zigzag(int64(u[i])), zigzag(int64(u[i+1]))
			u[i], u[i+1] = y, z
			all |= y | z
			lens[bits.Len64(y)]++
			more[bits.Len64(z)]++
		}
		if i < len(u) {
			z := zigzag(int64(u[i]))
			u[i] = z
			all |= z
			lens[bits.Len64(z)]++
		}
	} else {
		for ; i+1 < len(u); i += 2 {
			y, z := u[i], u[i+1]
			all |= y | z
			lens[bits.Len64(y)]++
			more[bits.Len64(z)]++
		}
		if i < len(u) {
			all |= u[i]
			lens[bits.Len64(u[i])]++
		}
	}
	top := bits.Len64(all)
	for i := range top + 1 {
		lens[i] += more[i]
	}
	p.cost, p.width = e.estimate(&lens, top, n)
	if zeros := int(lens[0]); zeros > n/4 && p.width > 1 {
		// One plane of presence, and the rest as if there were no zeros.
		m := n - zeros
		c, w := e.estimate(&lens, top, m)
		if c += 2 + int(e.planeCost(n, min(m, zeros))>>10); c < p.cost {
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
