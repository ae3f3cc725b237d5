package codec

import (
	"encoding/binary"
	"math/bits"
)

// residuals reads the residuals of a column into s.x[:n].
func (s *scratch) residuals(r *reader, c *column, n int) error {
	m := n
	if c.ext&extSparse != 0 {
		how := r.byte()
		kind, known := how, byte(planeMask2)
		if s.version >= version2 {
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
	if groups <= 8 {
		return s.denseWords(r, width, groups)
	}
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

// denseWords is dense for planes of up to eight bytes, which fit into a word:
// rows fresh from a flush are many, and so are columns of few residuals.
func (s *scratch) denseWords(r *reader, width, groups int) error {
	// Planes whose kinds share a byte: 1 << share. Planes without a kind: raw.
	share, raw := uint(2), 0
	if s.version >= version2 && width > 0 {
		share, raw = 1, int(r.byte())
	}
	kinds := r.bytes((max(width-raw, 0) + 1<<share - 1) >> share)
	if r.bad || raw > width {
		return corrupt("plane kinds are cut off")
	}
	kindBits := 8 >> share
	known := byte(1)<<kindBits - 1
	keep := ^uint64(0) >> ((64 - 8*groups) & 63)
	b, at := r.b, 0 // what is at hand of the input, and how much of it is read
	next, left := uint(0), 0
	for low := 0; low < width; low += 8 {
		var planes [8]uint64
		for p := range min(width-low, 8) {
			kind := byte(planeRaw)
			if low+p >= raw {
				if left == 0 {
					next, left, kinds = uint(kinds[0]), 1<<share, kinds[1:]
				}
				kind = byte(next) & known
				next >>= kindBits
				left--
			}
			switch {
			case kind == planeRaw && at+8 <= len(b):
				planes[p&7] = binary.LittleEndian.Uint64(b[at:at+8]) & keep
				at += groups
			case kind == planeRaw && at+groups <= len(b) && len(b) >= 8: // the last ones
				planes[p&7] = binary.LittleEndian.Uint64(b[len(b)-8:]) >> ((at + 8 - len(b)) * 8 & 63) & keep
				at += groups
			case kind == planeZero:
			default:
				r.b = b[at:]
				var plane [8]byte
				if !s.plane(r, plane[:groups], kind) {
					return corrupt("planes are cut off or malformed")
				}
				planes[p&7] = binary.LittleEndian.Uint64(plane[:])
				b, at = r.b, 0
			}
		}
		untangleWords(&planes, (*[64]byte)(s.lanes[low/8][:]), groups)
	}
	r.b = b[at:]
	return nil
}

// untangle turns eight planes, of so many bytes, into one byte per residual, 64
// residuals at a time.
func untangle(planes *[8][maxBlock / 8]byte, lane *[maxBlock]byte, groups int) {
	for at := 0; at < groups; at += 8 {
		words := [8]uint64{
			binary.LittleEndian.Uint64(planes[0][at:]), binary.LittleEndian.Uint64(planes[1][at:]),
			binary.LittleEndian.Uint64(planes[2][at:]), binary.LittleEndian.Uint64(planes[3][at:]),
			binary.LittleEndian.Uint64(planes[4][at:]), binary.LittleEndian.Uint64(planes[5][at:]),
			binary.LittleEndian.Uint64(planes[6][at:]), binary.LittleEndian.Uint64(planes[7][at:]),
		}
		untangleWords(&words, (*[64]byte)(lane[8*at:]), 8)
	}
}

// untangleWords turns eight planes of up to 64 bits into one byte per residual:
// first the 8x8 bytes are transposed, which
// brings together the eight bytes that hold the bits of eight residuals, then
// the 8x8 bits of each.
func untangleWords(planes *[8]uint64, out *[64]byte, groups int) {
	const m32, m16, m8 = 0x00000000ffffffff, 0x0000ffff0000ffff, 0x00ff00ff00ff00ff
	a, b, c, d := planes[0]&m32|planes[4]<<32, planes[1]&m32|planes[5]<<32, planes[2]&m32|planes[6]<<32, planes[3]&m32|planes[7]<<32
	if a|b|c|d == 0 {
		clear(out[:32])
	} else {
		a, c = a&m16|c&m16<<16, a>>16&m16|c&^m16
		b, d = b&m16|d&m16<<16, b>>16&m16|d&^m16
		a, b = a&m8|b&m8<<8, a>>8&m8|b&^m8
		c, d = c&m8|d&m8<<8, c>>8&m8|d&^m8
		binary.LittleEndian.PutUint64(out[0:], transpose(a))
		binary.LittleEndian.PutUint64(out[8:], transpose(b))
		binary.LittleEndian.PutUint64(out[16:], transpose(c))
		binary.LittleEndian.PutUint64(out[24:], transpose(d))
	}
	if groups <= 4 { // short rows are what a flush writes
		return
	}
	a, b, c, d = planes[0]>>32|planes[4]&^m32, planes[1]>>32|planes[5]&^m32, planes[2]>>32|planes[6]&^m32, planes[3]>>32|planes[7]&^m32
	if a|b|c|d == 0 {
		clear(out[32:])
		return
	}
	a, c = a&m16|c&m16<<16, a>>16&m16|c&^m16
	b, d = b&m16|d&m16<<16, b>>16&m16|d&^m16
	a, b = a&m8|b&m8<<8, a>>8&m8|b&^m8
	c, d = c&m8|d&m8<<8, c>>8&m8|d&^m8
	binary.LittleEndian.PutUint64(out[32:], transpose(a))
	binary.LittleEndian.PutUint64(out[40:], transpose(b))
	binary.LittleEndian.PutUint64(out[48:], transpose(c))
	binary.LittleEndian.PutUint64(out[56:], transpose(d))
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
