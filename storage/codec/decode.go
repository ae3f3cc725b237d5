package codec

import (
	"encoding/binary"
	"math"
)

// column is a column header.
type column struct {
	kind   int
	zigzag bool
	scale  int
	ext    byte
	width  int // planes
	base   int64
	slope  int64
	unit   uint64

	divided bool // the values of it are, by the power of ten of the scale
}

// flat reports whether all residuals are zero and nothing is stored of them.
func (c *column) flat() bool { return c.width == 0 && c.ext&(extExceptions|extSparse) == 0 }

// columnHeader reads the header of a column up to its planes.
func (r *reader) columnHeader(c *column, version byte, col columnType, n int) error {
	if len(r.b) < 2 {
		return corrupt("column header is cut off")
	}
	b, at := r.b, 2
	head, width := b[0], b[1]
	c.kind, c.zigzag, c.scale = int(head&7), head&headerZigzag != 0, int(head>>headerScaleShift)
	c.width, c.ext, c.slope, c.unit, c.divided = int(width&^headerExtended), 0, 0, 1, false
	if width&headerExtended != 0 {
		if len(b) > at {
			c.ext = b[at]
		}
		at++
		if c.ext == 0 || c.ext&^extAll != 0 {
			return corrupt("column extensions %#x", c.ext)
		}
	}
	if c.kind >= kindSliding && version < version3 || c.width > 64 {
		return corrupt("column of kind %d with %d planes", c.kind, c.width)
	}
	if col != columnValue && (c.scale != 0 || c.ext&(extSpecials|extCorrected) != 0) {
		return corrupt("column of integers with a scale, special values or corrections")
	}
	var u uint64
	if c.scale == scaleBits {
		if len(b)-at < 8 {
			return corrupt("column header is cut off")
		}
		u = binary.BigEndian.Uint64(b[at:])
		c.base, at = int64(u), at+8
	} else {
		u, at = uvarintAt(b, at)
		c.base = unzigzag(u)
	}
	if hasSlope(c.kind) {
		u, at = uvarintAt(b, at)
		c.slope = unzigzag(u)
		if c.kind >= kindSliding { // what is left of it where it is kept with s more bits
			c.slope = c.slope << sliding(c.kind) >> sliding(c.kind)
		}
	}
	if c.ext&extUnit != 0 {
		c.unit, at = uvarintAt(b, at)
	}
	if at > len(b) {
		return corrupt("column header is cut off")
	}
	r.b = b[at:]
	if n > maxBlock && !c.flat() {
		return corrupt("block of %d samples with planes", n)
	}
	return nil
}

// decodeTimes reads the timestamps of a block into t.
func (d *decoder) decodeTimes(r *reader, h *header, t []int64, first int64) error {
	if h.flags&flagRegular == 0 {
		var c column
		if err := r.columnHeader(&c, d.version, columnTime, len(t)); err != nil {
			return err
		}
		c.base += first
		if err := decodeInts(d, r, &c, t); err != nil {
			return err
		}
		if t[0] != first || !increasing(t) {
			return corrupt("timestamps of a block do not increase")
		}
		return nil
	}
	if len(t) == 1 {
		t[0] = first
		return nil
	}
	step := h.step
	if !h.uniform() {
		var err error
		if step, err = r.step(first, len(t)); err != nil {
			return err
		}
	}
	ramp(t, first, step)
	return nil
}

// decodeStarts reads the start timestamps of a block into st.
func (d *decoder) decodeStarts(r *reader, st []int64, first int64) error {
	var c column
	if err := r.columnHeader(&c, d.version, columnStart, len(st)); err != nil {
		return err
	}
	c.base += first
	return decodeInts(d, r, &c, st)
}

// number is what the integers of a column are written as: float64 where they
// are values, so that there is no pass over them for that alone.
type number interface{ int64 | float64 }

// decodeInts reads the rest of a column into k.
func decodeInts[T number](d *decoder, r *reader, c *column, k []T) error {
	n := len(k)
	if c.flat() {
		slope := c.slope
		if !hasSlope(c.kind) {
			slope = 0
		}
		ramp(k, c.base, slope)
		return nil
	}
	if d.version == version1 && n <= 64 && c.width >= 1 && c.width <= 16 && c.ext&(extSparse|extExceptions) == 0 {
		// Most short columns: no scratch is needed.
		b, at, groups := r.b, (c.width+3)/4, (n+7)/8
		if at > len(b) {
			return corrupt("plane kinds are cut off")
		}
		var lanes [2][64]byte
		how := shortKinds(b, at, 0)
		count := 1
		if c.width > 8 {
			count = 2
			if at = shortLane(b, at, how, 8, groups, &lanes[0]); at >= 0 {
				at = shortLane(b, at, shortKinds(b, (c.width+3)/4, 2), c.width-8, groups, &lanes[1])
			}
		} else {
			at = shortLane(b, at, how, c.width, groups, &lanes[0])
		}
		if at < 0 {
			return corrupt("planes are cut off or malformed")
		}
		r.b = b[at:]
		switch {
		case integrateFast(c, k, &lanes[0][0], 64, count):
		case count == 1:
			integrateBytes(c, k, lanes[0][:n])
		default:
			integratePairs(c, k, lanes[0][:n], lanes[1][:n])
		}
		return nil
	}
	s := d.scratch()
	switch {
	case c.ext&extSparse != 0:
		m, err := s.sparse(r, c, n)
		if err != nil {
			return err
		}
		if m*fewPart > n && c.kind != kindLevel && c.kind != kindLine {
			s.spreadOut(n, m)
			integrate(c, k, s.x[:n])
			break
		}
		at := s.at[:setBits(&s.at, s.presence[:(n+7)/8])]
		x := s.x[:len(at)]
		for i := range x {
			x[i]++
		}
		integrateFew(c, k, at, x)
	case c.width == 0: // nothing but exceptions
		m, err := s.exceptionList(r, n)
		if err != nil {
			return err
		}
		integrateFew(c, k, s.at[:m], s.x[:m])
	default:
		if err := s.dense(r, c.width, n); err != nil {
			return err
		}
		lanes := (c.width + 7) / 8
		if c.ext&extExceptions != 0 {
			var err error
			if lanes, err = s.exceptionLanes(r, c.width, n); err != nil {
				return err
			}
		}
		switch {
		case integrateFast(c, k, &s.lanes[0][0], maxBlock, lanes):
		case lanes == 1:
			integrateBytes(c, k, s.lanes[0][:n])
		case lanes == 2:
			integratePairs(c, k, s.lanes[0][:n], s.lanes[1][:n])
		default:
			s.widen(lanes, n)
			integrate(c, k, s.x[:n])
		}
	}
	return nil
}

// ramp fills k with x, x + step, x + 2 step, and so on.
func ramp[T number](k []T, x, step int64) {
	if len(k) >= 16 {
		n := rampFast(k, x, step)
		k = k[n:]
		x += int64(n) * step
	}
	for ; len(k) >= 4; k = k[4:] {
		k[0], k[1], k[2], k[3] = T(x), T(x+step), T(x+2*step), T(x+3*step)
		x += 4 * step
	}
	for i := range k {
		k[i] = T(x)
		x += step
	}
}

// repeat fills v with x.
func repeat(v []float64, x float64) {
	v = v[repeatFast(v, x):]
	for ; len(v) >= 4 && len(v) <= 64; v = v[4:] {
		v[0], v[1], v[2], v[3] = x, x, x, x
	}
	n := min(len(v), 32)
	for i := range v[:n] {
		v[i] = x
	}
	for ; n < len(v); n *= 2 {
		copy(v[n:], v[:n])
	}
}

// decodeValues reads the values of a block into v.
func (d *decoder) decodeValues(r *reader, v []float64) error {
	var c column
	if err := r.columnHeader(&c, d.version, columnValue, len(v)); err != nil {
		return err
	}
	if c.flat() && !(hasSlope(c.kind) && c.slope != 0) {
		x := math.Float64frombits(uint64(c.base))
		if c.scale != scaleBits {
			x = float64(c.base) / pow10[c.scale]
		}
		repeat(v, x)
	} else {
		if err := d.decodeValueInts(r, &c, v); err != nil {
			return err
		}
	}
	if c.ext&extCorrected != 0 {
		if err := d.correct(r, v); err != nil {
			return err
		}
	}
	if c.ext&extSpecials != 0 {
		return r.specials(v)
	}
	return nil
}

// correct reads a column of corrections and applies them to v.
func (d *decoder) correct(r *reader, v []float64) error {
	if len(v) > maxBlock {
		return corrupt("corrections in a block of %d samples", len(v))
	}
	var c column
	if err := r.columnHeader(&c, d.version, columnCorrection, len(v)); err != nil {
		return err
	}
	ulps := d.scratch().ints[:len(v)]
	if err := decodeInts(d, r, &c, ulps); err != nil {
		return err
	}
	for i, x := range ulps {
		v[i] = math.Float64frombits(math.Float64bits(v[i]) + uint64(x))
	}
	return nil
}

// decodeValueInts reads the values of a column that is not constant.
func (d *decoder) decodeValueInts(r *reader, c *column, v []float64) error {
	if c.scale < scaleBits {
		if err := decodeInts(d, r, c, v); err != nil {
			return err
		}
		if c.scale > 0 && !c.divided {
			p := pow10[c.scale]
			for i, x := range v {
				v[i] = x / p
			}
		}
		return nil
	}
	k := d.scratch().ints[:]
	for len(v) > 0 {
		m := min(len(v), maxBlock)
		if err := decodeInts(d, r, c, k[:m]); err != nil {
			return err
		}
		for i, x := range k[:m] {
			v[i] = math.Float64frombits(uint64(x))
		}
		// Only a column without residuals is longer than a block.
		v = v[m:]
		c.base += c.slope * int64(m)
	}
	return nil
}

// specials puts the special values into v.
func (r *reader) specials(v []float64) error {
	count := r.uvarint()
	next := uint64(0)
	last := uint64(0)
	for i := uint64(0); i < count; i++ {
		entry := r.uvarint()
		next += entry >> 2
		if r.bad || next >= uint64(len(v)) {
			return corrupt("special value outside of its block")
		}
		switch entry & 3 {
		case specialRaw:
			last = r.uint64()
		case specialStale:
			last = staleNaN
		case specialNaN:
			last = normalNaN
		}
		v[next] = math.Float64frombits(last)
		next++
	}
	if r.bad {
		return corrupt("special values are cut off")
	}
	return nil
}
