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
	top    int  // bits of the longest residual, or a few more
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
	var few *short
	var u []uint64
	if e.version == version1 {
		few = e.settle(&p)
		u = few.x[:few.m]
	} else if u = e.best[:n]; p.sparse {
		u = e.compact(u)
	}
	exceptions := 0
	if p.width < p.top {
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
	switch {
	case p.sparse && few != nil:
		dst = few.appendPresence(dst, n)
	case p.sparse:
		at := len(dst)
		dst = append(dst, 0)
		presence, inverted := e.presence[:(n+7)/8], byte(0)
		if 2*len(u) > n {
			invert(presence, n)
			inverted = presenceInverted
		}
		var kind byte
		dst, kind = e.appendPlane(dst, presence, n)
		dst[at] = kind | inverted
	}
	if few != nil {
		dst = few.appendPlanes(dst, p.width)
	} else {
		dst = e.appendPlanes(dst, u, p.width)
	}
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
	e.chosen, e.tried, e.spare = &e.shorts[0], &e.shorts[1], &e.shorts[2]
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
		if smooth(k, step) {
			e.tryDelta2(k, unit, &best)
		}
		return best
	}

	// The lengths of all residuals, in bits, show which kinds are worth a try.
	middle := median(k)
	s := scan(k, middle, step)
	least := min(s.level, s.delta, s.delta2)
	limit := least + least/8
	// One that neither has fewer bits than the best in all, nor in its longest residual, is
	// better only by chance.
	chance := least + least/16
	top := s.top(least)
	if s.level <= limit && (s.level <= chance || s.levelTop < top) {
		e.tryLevel(k, unit, middle, true, &best)
		if promising(s.greatest-s.least, len(k), &best) {
			e.tryLevel(k, unit, s.least, false, &best)
		}
	}
	if s.delta <= limit && (s.delta <= chance || s.deltaTop < top) {
		e.tryDelta(k, unit, step, true, &best)
		if promising(s.greatestStep-s.leastStep, len(k), &best) {
			e.tryDelta(k, unit, s.leastStep, false, &best)
		}
	}
	if s.delta2 <= limit && (s.delta2 <= chance || s.delta2Top < top) {
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

// smooth reports whether the differences of neighbours in k are closer to each other than they
// are to step, judged by a few.
func smooth(k []int64, step int64) bool {
	n := len(k) - 2
	far, near := uint64(0), uint64(0)
	for at := 0; at < n; at += n/8 + 1 {
		d := k[at+2] - k[at+1]
		far += zigzag(d-step) >> 4
		near += zigzag(d-(k[at+1]-k[at])) >> 4
	}
	return near < far
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
	u := e.residuals(len(k))
	u[0] = 0
	a := slope << shift
	for i := 1; i < len(k); i++ {
		x := k[i] - k[i-1] - a>>(shift&3)
		a += x
		u[i] = uint64(x)
	}
	e.offer(plan{kind: kindSliding + int(shift) - 1, zigzag: true, slope: slope, unit: 1}, len(k), best)
}

// spread is what a first look at a column shows, of residuals that are zigzag encoded.
type spread struct {
	level, delta, delta2          int // bits of all residuals of these kinds
	levelTop, deltaTop, delta2Top int // bits of the longest
	least, greatest               int64
	leastStep, greatestStep       int64
}

// top returns the bits of the longest residual of the kind that has so many in all.
func (s *spread) top(all int) int {
	switch all {
	case s.level:
		return s.levelTop
	case s.delta:
		return s.deltaTop
	default:
		return s.delta2Top
	}
}

func scan(k []int64, middle, step int64) spread {
	d := k[1] - k[0]
	l0, l1, l2 := zigzag(k[0]-middle), zigzag(k[1]-middle), zigzag(d-step)
	s := spread{
		least: min(k[0], k[1]), greatest: max(k[0], k[1]), leastStep: d, greatestStep: d,
		level: bits.Len64(l0) + bits.Len64(l1), delta: bits.Len64(l2),
	}
	levels, deltas, deltas2 := l0|l1, l2, uint64(0)
	for i := 2; i < len(k); i++ {
		x := k[i]
		next := x - k[i-1]
		l0, l1, l2 := zigzag(x-middle), zigzag(next-step), zigzag(next-d)
		levels |= l0
		deltas |= l1
		deltas2 |= l2
		s.level += bits.Len64(l0)
		s.delta += bits.Len64(l1)
		s.delta2 += bits.Len64(l2)
		d = next
		s.least, s.greatest = min(s.least, x), max(s.greatest, x)
		s.leastStep, s.greatestStep = min(s.leastStep, d), max(s.greatestStep, d)
	}
	s.levelTop, s.deltaTop, s.delta2Top = bits.Len64(levels), bits.Len64(deltas), bits.Len64(deltas2)
	return s
}

// promising reports whether residuals above the least of them may be cheaper
// than best, which is likely only where they take fewer bits. span is the greatest.
func promising(span int64, n int, best *plan) bool {
	length := bits.Len64(uint64(span))
	return length < best.top && length*n/8 <= best.cost+best.cost/4
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

// samples is by how many of n integers, and how far apart, in 1/65536, their median is judged.
func samples(n int) (number, stride int) {
	switch {
	case n < 7:
		return n, 1 << 16
	case n < codedRow:
		return 7, n << 16 / 7
	default:
		return 21, n << 16 / 21
	}
}

// median returns about the median of k.
func median(k []int64) int64 {
	var buf [21]int64
	number, stride := samples(len(k))
	s := buf[:number]
	for j, at := 0, 0; j < len(s); j, at = j+1, at+stride {
		s[j] = k[at>>16]
	}
	return middle(s)
}

// medianStep returns about the median of the differences of neighbours in k.
func medianStep(k []int64) int64 {
	var buf [21]int64
	number, stride := samples(len(k) - 1)
	s := buf[:number]
	for j, at := 0, 0; j < len(s); j, at = j+1, at+stride {
		s[j] = k[at>>16+1] - k[at>>16]
	}
	return middle(s)
}

// middle returns the median of at most 7 integers, and of 21 the median of three such. It changes
// their order.
func middle(s []int64) int64 {
	switch len(s) {
	case 7:
		return medianOf7(s[0], s[1], s[2], s[3], s[4], s[5], s[6])
	case 21:
		a := medianOf7(s[0], s[3], s[6], s[9], s[12], s[15], s[18])
		b := medianOf7(s[1], s[4], s[7], s[10], s[13], s[16], s[19])
		c := medianOf7(s[2], s[5], s[8], s[11], s[14], s[17], s[20])
		return max(min(a, b), min(max(a, b), c))
	default:
		slices.Sort(s)
		return s[len(s)/2]
	}
}

// medianOf7 returns the median, without a branch that depends on the numbers: they would be
// predicted badly. The comparisons are those of Devillard, Fast median search: an ANSI C
// implementation (1998).
func medianOf7(a, b, c, d, e, f, g int64) int64 {
	a, f = min(a, f), max(a, f)
	a, d = min(a, d), max(a, d)
	b, g = min(b, g), max(b, g)
	c, e = min(c, e), max(c, e)
	b = max(a, b)
	d, f = min(d, f), max(d, f)
	c, g = min(c, g), max(c, g)
	d = max(c, d)
	d = min(d, g)
	e = min(e, f)
	b, e = min(b, e), max(b, e)
	d = max(b, d)
	return min(d, e)
}

func (e *Encoder) tryLevel(k []int64, unit uint64, base int64, zz bool, best *plan) {
	u := e.residuals(len(k))
	for i, x := range k {
		u[i] = uint64(x - base)
	}
	e.offer(plan{kind: kindLevel, zigzag: zz, base: base, unit: unit}, len(k), best)
}

func (e *Encoder) tryDelta(k []int64, unit uint64, slope int64, zz bool, best *plan) {
	u := e.residuals(len(k))
	u[0] = 0
	for i := 1; i < len(k); i++ {
		u[i] = uint64(k[i] - k[i-1] - slope)
	}
	e.offer(plan{kind: kindDelta, zigzag: zz, slope: slope, unit: unit}, len(k), best)
}

func (e *Encoder) tryDelta2(k []int64, unit uint64, best *plan) {
	slope := k[1] - k[0]
	u := e.residuals(len(k))
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
	u := e.residuals(len(k))
	line := int64(0)
	for i, x := range k {
		u[i] = uint64(x - line)
		line += slope
	}
	var buf [21]int64
	number, stride := samples(len(u))
	around := buf[:number]
	for j, at := 0, 0; j < len(around); j, at = j+1, at+stride {
		around[j] = int64(u[at>>16])
	}
	base := middle(around)
	for i := range u {
		u[i] -= uint64(base)
	}
	e.offer(plan{kind: kindLine, zigzag: true, base: base, slope: slope, unit: unit}, len(k), best)
}

func (e *Encoder) tryXOR(k []int64, best *plan) {
	u := e.residuals(len(k))
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

// residuals is where those of the plan to be tried go.
func (e *Encoder) residuals(n int) []uint64 {
	if e.version == version1 {
		return e.tried.x[:n]
	}
	return e.trial[:n]
}

// offer estimates the cost of p, whose residuals are in e.residuals, not yet
// zigzag encoded, and makes it the best if it is cheaper.
func (e *Encoder) offer(p plan, n int, best *plan) {
	if e.version == version1 {
		e.offerShort(p, n, best)
		return
	}
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
	p.top = top
	p.cost, p.width = e.estimate(&lens, top, n)
	if zeros := int(lens[0]); zeros > n/4 && p.width > 1 {
		// One plane of presence, and the rest as if there were no zeros.
		m := n - zeros
		c, w := e.estimate(&lens, top, m)
		if c += 2 + int(newPlaneSize(version2, n).cost(int32(min(m, zeros)))>>10); c < p.cost {
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
