package codec

import (
	"encoding/binary"
	"math/bits"
)

// residuals reads the residuals of a column into s.x[:n].
func (s *scratch) residuals(r *reader, c column, n int) error {
	m := n
	if c.ext&extSparse != 0 {
		how := r.byte()
		kind, known := how, byte(planeMask2)
		if s.version == version2 {
			kind, known = how&^presenceInverted, byte(numPlaneKinds-1)
		}
		presence := s.presence[:(n+7)/8]
		if r.bad || kind > known || !s.plane(r, presence, kind) {
			return corrupt("presence of residuals is cut off or malformed")
		}
		if n%8 != 0 && presence[n/8]>>(n%8) != 0 {
			return corrupt("presence of residuals outside of their block")
		}
		if how != kind {
			invert(presence, n)
		}
		m = 0
		for _, b := range presence {
			m += bits.OnesCount8(b)
		}
	}
	if err := s.dense(r, c.width, m); err != nil {
		return err
	}
	s.widen(c.width, m)
	if c.ext&extExceptions != 0 {
		if err := r.exceptions(s.x[:m], c.width); err != nil {
			return err
		}
	}
	if c.ext&extSparse != 0 {
		s.spreadOut(n, m)
	}
	return nil
}

// spreadOut moves the m residuals at the front of s.x to where s.presence says.
func (s *scratch) spreadOut(n, m int) {
	x := s.x[:n]
	for i := n - 1; i >= 0; i-- {
		if s.presence[i/8]>>(i%8)&1 == 0 {
			x[i] = 0
			continue
		}
		m--
		x[i] = x[m] + 1
	}
}

// dense reads planes of n bits and leaves in s.lanes[l][i] bits 8*l to 8*l+7 of
// residual i.
func (s *scratch) dense(r *reader, width, n int) error {
	groups := (n + 7) / 8
	if s.version == version1 {
		kinds := r.bytes((width + 3) / 4)
		if r.bad {
			return corrupt("plane kinds are cut off")
		}
		for p := range width {
			if !s.plane(r, s.planes[p][:groups], kinds[p/4]>>(p%4*2)&3) {
				return corrupt("planes are cut off or malformed")
			}
		}
	} else if width > 0 {
		raw := int(r.byte())
		kinds := r.bytes((max(width-raw, 0) + 1) / 2)
		if r.bad || raw > width {
			return corrupt("plane kinds are cut off")
		}
		for p := range raw {
			copy(s.planes[p][:groups], r.bytes(groups))
		}
		for p := range width - raw {
			if r.bad || !s.plane(r, s.planes[raw+p][:groups], kinds[p/2]>>(p%2*4)&15) {
				return corrupt("planes are cut off or malformed")
			}
		}
		if r.bad {
			return corrupt("planes are cut off or malformed")
		}
	}
	for p := width; p%8 != 0; p++ {
		clear(s.planes[p][:groups])
	}
	for low := 0; low < width; low += 8 {
		untangle((*[8][maxBlock / 8]byte)(s.planes[low:]), &s.lanes[low/8], groups)
	}
	return nil
}

// untangle turns eight planes, of so many bytes, into one byte per residual. It
// works on 64 residuals at a time: first the 8x8 bytes are transposed, which
// brings together the eight bytes that hold the bits of eight residuals, then
// the 8x8 bits of each.
func untangle(planes *[8][maxBlock / 8]byte, lane *[maxBlock]byte, groups int) {
	const m32, m16, m8 = 0x00000000ffffffff, 0x0000ffff0000ffff, 0x00ff00ff00ff00ff
	for at := 0; at < groups; at += 8 {
		word := func(p int) uint64 { return binary.LittleEndian.Uint64(planes[p][at:]) }
		a, b, c, d := word(0), word(1), word(2), word(3)
		e, f, g, h := word(4), word(5), word(6), word(7)
		out := lane[8*at : 8*at+64 : 8*at+64]
		if a|b|c|d|e|f|g|h == 0 {
			clear(out)
			continue
		}
		a, e = a&m32|e<<32, a>>32|e&^m32
		b, f = b&m32|f<<32, b>>32|f&^m32
		c, g = c&m32|g<<32, c>>32|g&^m32
		d, h = d&m32|h<<32, d>>32|h&^m32
		a, c = a&m16|c&m16<<16, a>>16&m16|c&^m16
		b, d = b&m16|d&m16<<16, b>>16&m16|d&^m16
		e, g = e&m16|g&m16<<16, e>>16&m16|g&^m16
		f, h = f&m16|h&m16<<16, f>>16&m16|h&^m16
		a, b = a&m8|b&m8<<8, a>>8&m8|b&^m8
		c, d = c&m8|d&m8<<8, c>>8&m8|d&^m8
		e, f = e&m8|f&m8<<8, e>>8&m8|f&^m8
		g, h = g&m8|h&m8<<8, g>>8&m8|h&^m8
		binary.LittleEndian.PutUint64(out[0:], transpose(a))
		binary.LittleEndian.PutUint64(out[8:], transpose(b))
		binary.LittleEndian.PutUint64(out[16:], transpose(c))
		if groups <= 3 { // short rows are what a flush writes
			return
		}
		binary.LittleEndian.PutUint64(out[24:], transpose(d))
		binary.LittleEndian.PutUint64(out[32:], transpose(e))
		binary.LittleEndian.PutUint64(out[40:], transpose(f))
		binary.LittleEndian.PutUint64(out[48:], transpose(g))
		binary.LittleEndian.PutUint64(out[56:], transpose(h))
	}
}

// widen puts the lanes of n residuals together in s.x.
func (s *scratch) widen(width, n int) {
	x := s.x[:n]
	switch {
	case width == 0:
		clear(x)
		return
	case width <= 8:
		for i, b := range s.lanes[0][:n] {
			x[i] = uint64(b)
		}
		return
	}
	l0, l1 := s.lanes[0][:n], s.lanes[1][:n]
	for i := range x {
		x[i] = uint64(l0[i]) | uint64(l1[i])<<8
	}
	for low := 16; low < width; low += 8 {
		lane := s.lanes[low/8][:n]
		for i := range x {
			x[i] |= uint64(lane[i]) << low
		}
	}
}

// invert turns round the n bits of a plane.
func invert(plane []byte, n int) {
	for i := range plane {
		plane[i] ^= 0xff
	}
	if n%8 != 0 {
		plane[n/8] &= 1<<(n%8) - 1
	}
}

// plane reads one plane.
func (s *scratch) plane(r *reader, plane []byte, kind byte) bool {
	var mask [maxBlock / 64]byte
	masks := (len(plane) + 7) / 8
	switch {
	case kind == planeZero:
		clear(plane)
		return true
	case kind == planeRaw:
		copy(plane, r.bytes(len(plane)))
		return !r.bad
	case kind == planeMask:
		copy(mask[:], r.bytes(masks))
	case kind == planeMask2:
		mask2 := r.bytes((masks + 7) / 8)
		if r.bad || !r.scatter(mask[:masks], mask2) {
			return false
		}
	case kind < planeMaskCoded:
		codes := codeReader{b: r.b}
		codes.read(int(kind-planeCoded), plane)
		return codes.end(r)
	default:
		codes := codeReader{b: r.b}
		codes.read(maskCodes[kind-planeMaskCoded], mask[:masks])
		some := 0
		for _, m := range mask[:masks] {
			some += bits.OnesCount8(m)
		}
		if some > len(plane) {
			return false
		}
		codes.read(codeNonzero, s.some[:some])
		from := reader{b: s.some[:some]}
		return codes.end(r) && from.scatter(plane, mask[:masks])
	}
	return !r.bad && r.scatter(plane, mask[:masks])
}

// scatter reads the bytes of dst whose bits are set in mask; the others are zero.
func (r *reader) scatter(dst, mask []byte) bool {
	clear(dst)
	for i, m := range mask {
		if m == 0 {
			continue
		}
		src := r.bytes(bits.OnesCount8(m))
		if r.bad {
			return false
		}
		for j := 0; m != 0; m &= m - 1 {
			at := 8*i + bits.TrailingZeros8(m)
			if at >= len(dst) {
				return false
			}
			dst[at] = src[j]
			j++
		}
	}
	return true
}

// exceptions reads the high bits of the residuals that have bits above the planes.
func (r *reader) exceptions(x []uint64, width int) error {
	count := r.uvarint()
	next := uint64(0)
	for range min(count, maxBlock+1) {
		gap, high := r.uvarint(), r.uvarint()
		if r.bad || gap >= uint64(len(x))-next {
			return corrupt("exception outside of its block")
		}
		next += gap
		x[next] |= high << width
		next++
	}
	if r.bad {
		return corrupt("exceptions are cut off")
	}
	return nil
}
