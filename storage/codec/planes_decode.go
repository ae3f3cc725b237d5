package codec

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// sparse reads the residuals of a sparse column: where they are into
// s.presence, and what is stored of them, one less than they are, into s.x[:m].
func (s *scratch) sparse(r *reader, c *column, n int) (m int, err error) {
	how := r.byte()
	kind, known := how, byte(planeMask2)
	if s.version >= version2 {
		kind, known = how&^presenceInverted, byte(numPlaneKinds-1)
	}
	presence := s.presence[:(n+7)/8]
	if r.bad || kind > known || !s.plane(r, presence, kind) {
		return 0, corrupt("presence of residuals is cut off or malformed")
	}
	if n%8 != 0 && presence[n/8]>>(n%8) != 0 {
		return 0, corrupt("presence of residuals outside of their block")
	}
	if how != kind {
		invert(presence, n)
	}
	m = ones(presence)
	if err := s.dense(r, c.width, m); err != nil {
		return 0, err
	}
	lanes := (c.width + 7) / 8
	if c.ext&extExceptions != 0 {
		if lanes, err = s.exceptionLanes(r, c.width, m); err != nil {
			return 0, err
		}
	}
	s.widen(lanes, m)
	return m, nil
}

// spreadOut moves the m residuals at the front of s.x to where s.presence says.
func (s *scratch) spreadOut(n, m int) {
	x := &s.x
	for i := n - 1; i >= 0; i-- {
		// Whether there is one is not predictable: no branch may depend on it.
		present := uint64(s.presence[i/8&(maxBlock/8-1)]>>(i%8)) & 1
		m -= int(present)
		x[i&(maxBlock-1)] = (x[m&(maxBlock-1)] + 1) & -present
	}
}

// setBits writes down which bits are set, and returns how many.
func setBits(at *[maxBlock]uint16, b []byte) int {
	n := 0
	for i := 0; i < len(b); i += 8 {
		for w := word(b[i:]); w != 0; w &= w - 1 {
			at[n&(maxBlock-1)] = uint16(8*i + bits.TrailingZeros64(w))
			n++
		}
	}
	return n
}

// word returns the first eight bytes of b, the lowest first, as if zeros were
// behind it.
func word(b []byte) uint64 {
	switch n := len(b); {
	case n >= 8:
		return binary.LittleEndian.Uint64(b)
	case n >= 4: // the two overlap
		return uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint32(b[n-4:]))<<(8*(n-4)&63)
	case n >= 2:
		return uint64(binary.LittleEndian.Uint16(b)) | uint64(binary.LittleEndian.Uint16(b[n-2:]))<<(8*(n-2)&63)
	case n == 1:
		return uint64(b[0])
	default:
		return 0
	}
}

// dense reads planes of n bits and leaves in s.lanes[l][i] bits 8*l to 8*l+7 of
// residual i.
func (s *scratch) dense(r *reader, width, n int) error {
	groups := (n + 7) / 8
	if groups <= 8 && s.version == version1 {
		return s.denseShort(r, width, groups)
	}
	if groups <= 8 {
		return s.denseWords(r, width, groups)
	}
	if groups <= 16 && s.version >= version2 && width > 0 {
		return s.denseTwoWords(r, width, groups)
	}
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
	padded := (groups + 7) &^ 7
	next, left := uint(0), 0
	for low := 0; low < width; low += 8 {
		planes := [8][]byte{zeroPlane[:], zeroPlane[:], zeroPlane[:], zeroPlane[:], zeroPlane[:], zeroPlane[:], zeroPlane[:], zeroPlane[:]}
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
			case kind == planeZero:
			case kind == planeRaw && padded <= len(r.b): // what is behind it does no harm
				planes[p&7] = r.b[:padded]
				r.b = r.b[groups:]
			default:
				plane := s.planes[p&7][:]
				if !s.plane(r, plane[:groups], kind) {
					return corrupt("planes are cut off or malformed")
				}
				planes[p&7] = plane
			}
		}
		untangle(&planes, &s.lanes[low/8], groups, width-low <= 4)
	}
	return nil
}

// zeroPlane is a plane without ones. Nothing writes to it.
var zeroPlane [maxBlock / 8]byte

// denseShort is dense for planes of up to eight bytes, which fit into a word, in version 1: rows
// fresh from a flush are many.
func (s *scratch) denseShort(r *reader, width, groups int) error {
	b, at := r.b, (width+3)/4
	if at > len(b) {
		return corrupt("plane kinds are cut off")
	}
	kinds := b[:at]
	for low := 0; low < width; low += 8 {
		how := shortKinds(kinds, len(kinds), low>>2)
		if at = shortLane(b, at, how, min(width-low, 8), groups, (*[64]byte)(s.lanes[low>>3&7][:])); at < 0 {
			return corrupt("planes are cut off or malformed")
		}
	}
	r.b = b[at:]
	return nil
}

// shortKinds returns the kinds of eight planes, or of fewer at the end, of which b[at:end] has those of four in each byte.
func shortKinds(b []byte, end, at int) uint {
	how := uint(b[at])
	if at+1 < end {
		how |= uint(b[at+1]) << 8
	}
	return how
}

// shortLane reads up to eight planes of up to eight bytes at b[at:], of the kinds how, two bits
// each. It returns where they end, or -1 where they are malformed.
func shortLane(b []byte, at int, how uint, width, groups int, lane *[64]byte) int {
	keep := ^uint64(0) >> ((64 - 8*groups) & 63)
	var planes [8]uint64
	for p := range width {
		kind := how & 3
		how >>= 2
		switch {
		case kind == planeRaw:
			switch {
			case at+8 <= len(b):
				planes[p&7] = binary.LittleEndian.Uint64(b[at:at+8]) & keep
			case at+groups <= len(b):
				planes[p&7] = word(b[at:]) & keep
			default:
				return -1
			}
			at += groups
			continue
		case kind == planeZero:
			continue
		}
		if at >= len(b) {
			return -1
		}
		mask := b[at]
		at++
		if kind == planeMask2 { // nothing writes it where there is one mask
			if mask == 0 {
				continue
			}
			if mask != 1 || at >= len(b) {
				return -1
			}
			mask = b[at]
			at++
		}
		if mask>>groups != 0 || at+bits.OnesCount8(mask) > len(b) {
			return -1
		}
		w := uint64(0)
		for ; mask != 0; mask &= mask - 1 {
			w |= uint64(b[at]) << (bits.TrailingZeros8(mask) * 8 & 63)
			at++
		}
		planes[p&7] = w
	}
	untangleUpTo(&planes, lane, groups, width)
	return at
}

// untangleUpTo is untangleWords for so many planes of so many bytes.
func untangleUpTo(planes *[8]uint64, out *[64]byte, groups, width int) {
	switch {
	case useAVX2:
		untangleWordsAVX2(planes, out)
	case groups <= 4: // short rows are what a flush writes
		untangleShort(planes, out)
	case width <= 4:
		untangleNarrow(planes, out)
	default:
		untangleWords(planes, out)
	}
}

// denseWords is dense for planes of up to eight bytes in version 2: columns of few residuals are
// many.
func (s *scratch) denseWords(r *reader, width, groups int) error {
	if width == 0 {
		return nil
	}
	raw := int(r.byte())
	kinds := r.bytes((max(width-raw, 0) + 1) >> 1)
	if r.bad || raw > width {
		return corrupt("plane kinds are cut off")
	}
	keep := ^uint64(0) >> ((64 - 8*groups) & 63)
	b, at := r.b, 0 // what is at hand of the input, and how much of it is read
	for low := 0; low < width; low += 8 {
		var planes [8]uint64
		for p := range min(width-low, 8) {
			kind := byte(planeRaw)
			if q := low + p - raw; q >= 0 {
				kind = kinds[q>>1] >> (q & 1 * 4) & 15
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
		untangleUpTo(&planes, (*[64]byte)(s.lanes[low/8][:]), groups, width-low)
	}
	r.b = b[at:]
	return nil
}

// denseTwoWords is dense for planes of 9 to 16 bytes in version 2: rows of half an
// hour at 15 s.
func (s *scratch) denseTwoWords(r *reader, width, groups int) error {
	raw := int(r.byte())
	kinds := r.bytes((max(width-raw, 0) + 1) >> 1)
	if r.bad || raw > width {
		return corrupt("plane kinds are cut off")
	}
	b, at := r.b, 0 // what is at hand of the input, and how much of it is read
	for low := 0; low < width; low += 8 {
		var first, second [8]uint64
		for p := range min(width-low, 8) {
			kind := byte(planeRaw)
			if q := low + p - raw; q >= 0 {
				kind = kinds[q>>1] >> (q & 1 * 4) & 15
			}
			switch {
			case kind == planeRaw && at+16 <= len(b): // what is behind it does no harm
				first[p&7], second[p&7] = binary.LittleEndian.Uint64(b[at:]), binary.LittleEndian.Uint64(b[at+8:])
				at += groups
			case kind == planeZero:
			default:
				r.b = b[at:]
				var plane [16]byte
				if !s.plane(r, plane[:groups], kind) {
					return corrupt("planes are cut off or malformed")
				}
				first[p&7], second[p&7] = binary.LittleEndian.Uint64(plane[:8]), binary.LittleEndian.Uint64(plane[8:])
				b, at = r.b, 0
			}
		}
		out := (*[128]byte)(s.lanes[low/8][:])
		untangleUpTo(&first, (*[64]byte)(out[:64]), 8, width-low)
		untangleUpTo(&second, (*[64]byte)(out[64:]), 8, width-low)
	}
	r.b = b[at:]
	return nil
}

// untangle turns eight planes, of so many bytes, into one byte per residual, 64
// residuals at a time. Only the first four planes count if narrow.
func untangle(planes *[8][]byte, lane *[maxBlock]byte, groups int, narrow bool) {
	if useAVX2 {
		untangleAVX2(&[8]*byte{
			unsafe.SliceData(planes[0]), unsafe.SliceData(planes[1]), unsafe.SliceData(planes[2]), unsafe.SliceData(planes[3]),
			unsafe.SliceData(planes[4]), unsafe.SliceData(planes[5]), unsafe.SliceData(planes[6]), unsafe.SliceData(planes[7]),
		}, &lane[0], (groups+7)/8)
		return
	}
	p0, p1, p2, p3, p4, p5, p6, p7 := planes[0], planes[1], planes[2], planes[3], planes[4], planes[5], planes[6], planes[7]
	for at := 0; at < groups; at += 8 {
		out := (*[64]byte)(lane[8*at:])
		words := [8]uint64{
			binary.LittleEndian.Uint64(p0[at:]), binary.LittleEndian.Uint64(p1[at:]),
			binary.LittleEndian.Uint64(p2[at:]), binary.LittleEndian.Uint64(p3[at:]),
		}
		if narrow {
			untangleNarrow(&words, out)
			continue
		}
		words[4], words[5] = binary.LittleEndian.Uint64(p4[at:]), binary.LittleEndian.Uint64(p5[at:])
		words[6], words[7] = binary.LittleEndian.Uint64(p6[at:]), binary.LittleEndian.Uint64(p7[at:])
		untangleWords(&words, out)
	}
}

const (
	even1, even2, even4  = 0x5555555555555555, 0x3333333333333333, 0x0f0f0f0f0f0f0f0f // every other bit, pair of bits, four bits
	even8, even16, low32 = 0x00ff00ff00ff00ff, 0x0000ffff0000ffff, 0x00000000ffffffff
)

// swap exchanges those bits of a that are shift above the bits of mask with the bits
// of mask in b: the step of which transpositions are made.
func swap(a, b uint64, shift uint, mask uint64) (uint64, uint64) {
	t := (a>>shift ^ b) & mask
	return a ^ t<<shift, b ^ t
}

// untangleWords turns eight planes of 64 bits into one byte per residual. First
// the 8x8 bits in byte g of all planes are transposed, for all g at once; byte g of
// word i then belongs to residual 8g+i. Then the 8x8 bytes are.
func untangleWords(p *[8]uint64, out *[64]byte) {
	a0, a1 := swap(p[0], p[1], 1, even1)
	a2, a3 := swap(p[2], p[3], 1, even1)
	a0, a2 = swap(a0, a2, 2, even2)
	a1, a3 = swap(a1, a3, 2, even2)
	a4, a5 := swap(p[4], p[5], 1, even1)
	a6, a7 := swap(p[6], p[7], 1, even1)
	a4, a6 = swap(a4, a6, 2, even2)
	a5, a7 = swap(a5, a7, 2, even2)
	a0, a4 = swap(a0, a4, 4, even4)
	a1, a5 = swap(a1, a5, 4, even4)
	a2, a6 = swap(a2, a6, 4, even4)
	a3, a7 = swap(a3, a7, 4, even4)

	a0, a1 = swap(a0, a1, 8, even8)
	a2, a3 = swap(a2, a3, 8, even8)
	a0, a2 = swap(a0, a2, 16, even16)
	a1, a3 = swap(a1, a3, 16, even16)
	a4, a5 = swap(a4, a5, 8, even8)
	a6, a7 = swap(a6, a7, 8, even8)
	a4, a6 = swap(a4, a6, 16, even16)
	a5, a7 = swap(a5, a7, 16, even16)
	binary.LittleEndian.PutUint64(out[0:], a0&low32|a4<<32)
	binary.LittleEndian.PutUint64(out[8:], a1&low32|a5<<32)
	binary.LittleEndian.PutUint64(out[16:], a2&low32|a6<<32)
	binary.LittleEndian.PutUint64(out[24:], a3&low32|a7<<32)
	binary.LittleEndian.PutUint64(out[32:], a0>>32|a4&^low32)
	binary.LittleEndian.PutUint64(out[40:], a1>>32|a5&^low32)
	binary.LittleEndian.PutUint64(out[48:], a2>>32|a6&^low32)
	binary.LittleEndian.PutUint64(out[56:], a3>>32|a7&^low32)
}

// untangleNarrow is untangleWords for planes of which the last four are zero.
func untangleNarrow(p *[8]uint64, out *[64]byte) {
	a0, a1 := swap(p[0], p[1], 1, even1)
	a2, a3 := swap(p[2], p[3], 1, even1)
	a0, a2 = swap(a0, a2, 2, even2)
	a1, a3 = swap(a1, a3, 2, even2)
	// Word i has residual 8g+i in the low four bits of byte g, and 8g+i+4 in the high ones.
	a0, a1 = swap(a0, a1, 8, even8)
	a2, a3 = swap(a2, a3, 8, even8)
	a0, a2 = swap(a0, a2, 16, even16)
	a1, a3 = swap(a1, a3, 16, even16)
	// Word g has those of 8g to 8g+7 in its low half, those of 8g+32 to 8g+39 in the other.
	for g, a := range [4]uint64{a0, a1, a2, a3} {
		binary.LittleEndian.PutUint64(out[8*g:], (a&low32|a<<28&^low32)&even4)
		binary.LittleEndian.PutUint64(out[8*g+32:], (a>>32|a>>4&^low32)&even4)
	}
}

// untangleShort is untangleWords for planes of up to 32 bits.
func untangleShort(p *[8]uint64, out *[64]byte) {
	a0, a1 := swap(p[0]&low32|p[4]<<32, p[1]&low32|p[5]<<32, 1, even1)
	a2, a3 := swap(p[2]&low32|p[6]<<32, p[3]&low32|p[7]<<32, 1, even1)
	a0, a2 = swap(a0, a2, 2, even2)
	a1, a3 = swap(a1, a3, 2, even2)
	a0, a1 = swap(a0, a1, 8, even8)
	a2, a3 = swap(a2, a3, 8, even8)
	a0, a2 = swap(a0, a2, 16, even16)
	a1, a3 = swap(a1, a3, 16, even16)
	for g, a := range [4]uint64{a0, a1, a2, a3} {
		// In the low half the low four bits of residuals 8g+i and, above, 8g+i+4; in the high half their high bits.
		t := (a>>4 ^ a>>32) & (even4 & low32)
		a ^= t<<4 ^ t<<32
		// Now each half has all bits of four residuals.
		binary.LittleEndian.PutUint64(out[8*g:], a)
	}
}

// widen puts the so many lanes of n residuals together in s.x.
func (s *scratch) widen(lanes, n int) {
	x := s.x[:n]
	l0, l1, l2, l3 := s.lanes[0][:n], s.lanes[1][:n], s.lanes[2][:n], s.lanes[3][:n]
	switch lanes {
	case 0:
		clear(x)
	case 1:
		for i := range x {
			x[i] = uint64(l0[i])
		}
	case 2:
		for i := range x {
			x[i] = uint64(l0[i]) | uint64(l1[i])<<8
		}
	case 3:
		for i := range x {
			x[i] = uint64(l0[i]) | uint64(l1[i])<<8 | uint64(l2[i])<<16
		}
	case 4:
		for i := range x {
			x[i] = uint64(uint32(l0[i]) | uint32(l1[i])<<8 | uint32(l2[i])<<16 | uint32(l3[i])<<24)
		}
	default:
		for l := lanes; l < 8; l++ {
			clear(s.lanes[l][:n])
		}
		for i := 0; i < n; i += 8 {
			s.widenWords((*[8]uint64)(s.x[i:]), i)
		}
	}
}

// widenWords puts the lanes of eight residuals together, by transposing 8x8 bytes.
func (s *scratch) widenWords(x *[8]uint64, i int) {
	i &= maxBlock - 8
	l := &s.lanes
	a0, a1 := swap(binary.LittleEndian.Uint64(l[0][i:]), binary.LittleEndian.Uint64(l[1][i:]), 8, even8)
	a2, a3 := swap(binary.LittleEndian.Uint64(l[2][i:]), binary.LittleEndian.Uint64(l[3][i:]), 8, even8)
	a0, a2 = swap(a0, a2, 16, even16)
	a1, a3 = swap(a1, a3, 16, even16)
	a4, a5 := swap(binary.LittleEndian.Uint64(l[4][i:]), binary.LittleEndian.Uint64(l[5][i:]), 8, even8)
	a6, a7 := swap(binary.LittleEndian.Uint64(l[6][i:]), binary.LittleEndian.Uint64(l[7][i:]), 8, even8)
	a4, a6 = swap(a4, a6, 16, even16)
	a5, a7 = swap(a5, a7, 16, even16)
	x[0], x[1], x[2], x[3] = a0&low32|a4<<32, a1&low32|a5<<32, a2&low32|a6<<32, a3&low32|a7<<32
	x[4], x[5], x[6], x[7] = a0>>32|a4&^low32, a1>>32|a5&^low32, a2>>32|a6&^low32, a3>>32|a7&^low32
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
	b, read := r.b, 0
	for i := 0; i < len(mask); i += 8 {
		for w := word(mask[i:]); w != 0; w &= w - 1 {
			at := 8*i + bits.TrailingZeros64(w)
			if at >= len(dst) || read >= len(b) {
				return false
			}
			dst[at] = b[read]
			read++
		}
	}
	r.b = b[read:]
	return true
}

// exceptionLanes reads the high bits of the residuals that have bits above the
// planes, and returns how many of s.lanes there are with them.
func (s *scratch) exceptionLanes(r *reader, width, n int) (lanes int, err error) {
	lanes = (width + 7) / 8
	count := r.uvarint()
	next := uint64(0)
	for range min(count, maxBlock+1) {
		gap, high := r.uvarint(), r.uvarint()
		if r.bad || gap >= uint64(n)-next {
			return 0, corrupt("exception outside of its block")
		}
		next += gap
		x := high << width >> (width &^ 7 & 63)
		if width == 64 {
			x = 0
		}
		for l := width / 8; x != 0; l++ {
			if l >= lanes {
				clear(s.lanes[l][:n])
				lanes = l + 1
			}
			s.lanes[l][next] |= byte(x)
			x >>= 8
		}
		next++
	}
	if r.bad {
		return 0, corrupt("exceptions are cut off")
	}
	return lanes, nil
}

// exceptionList reads the residuals of a column without planes that are not
// zero into s.x[:m], and where they are into s.at[:m].
func (s *scratch) exceptionList(r *reader, n int) (m int, err error) {
	count := r.uvarint()
	next := uint64(0)
	for i := range min(count, maxBlock+1) {
		gap, x := r.uvarint(), r.uvarint()
		if r.bad || gap >= uint64(n)-next {
			return 0, corrupt("exception outside of its block")
		}
		next += gap
		s.at[i], s.x[i] = uint16(next), x
		next++
	}
	if r.bad {
		return 0, corrupt("exceptions are cut off")
	}
	return int(count), nil
}
