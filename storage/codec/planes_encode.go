package codec

import "math/bits"

// transpose transposes an 8x8 matrix of bits: bit 8*i+j becomes bit 8*j+i.
// (Hacker's Delight, 7-3.)
func transpose(x uint64) uint64 {
	t := (x ^ x>>7) & 0x00aa00aa00aa00aa
	x ^= t ^ t<<7
	t = (x ^ x>>14) & 0x0000cccc0000cccc
	x ^= t ^ t<<14
	t = (x ^ x>>28) & 0x00000000f0f0f0f0
	return x ^ t ^ t<<28
}

// appendPlanes appends the lowest width bits of u as bit planes. u must have
// room for a multiple of 8 residuals.
func (e *Encoder) appendPlanes(dst []byte, u []uint64, width int) []byte {
	if width == 0 {
		return dst
	}
	n := len(u)
	groups := (n + 7) / 8
	u = u[:groups*8]
	clear(u[n:])
	for s := 0; s < width; s += 8 {
		for g := range groups {
			b := u[8*g : 8*g+8 : 8*g+8]
			x := b[0]>>s&0xff | b[1]>>s&0xff<<8 | b[2]>>s&0xff<<16 | b[3]>>s&0xff<<24 |
				b[4]>>s&0xff<<32 | b[5]>>s&0xff<<40 | b[6]>>s&0xff<<48 | b[7]>>s&0xff<<56
			x = transpose(x)
			for p := range 8 {
				e.planes[s+p][g] = byte(x >> (8 * p))
			}
		}
	}
	kinds := len(dst)
	for range (width + 3) / 4 {
		dst = append(dst, 0)
	}
	for p := range width {
		var kind byte
		dst, kind = appendPlane(dst, e.planes[p][:groups])
		dst[kinds+p/4] |= kind << (p % 4 * 2)
	}
	return dst
}

// appendPlane appends one plane in the smallest of its forms.
func appendPlane(dst, plane []byte) ([]byte, byte) {
	var mask [maxBlock / 64]byte
	nonzero := 0
	for i, b := range plane {
		if b != 0 {
			mask[i/8] |= 1 << (i % 8)
			nonzero++
		}
	}
	if nonzero == 0 {
		return dst, planeZero
	}
	masks := (len(plane) + 7) / 8
	var mask2 [(maxBlock/64 + 7) / 8]byte
	used := 0
	for i, b := range mask[:masks] {
		if b != 0 {
			mask2[i/8] |= 1 << (i % 8)
			used++
		}
	}
	masks2 := (masks + 7) / 8
	kind := byte(planeRaw)
	size := len(plane)
	if masks+nonzero < size {
		kind, size = planeMask, masks+nonzero
	}
	if masks2+used+nonzero < size {
		kind = planeMask2
	}
	switch kind {
	case planeRaw:
		return append(dst, plane...), kind
	case planeMask:
		dst = append(dst, mask[:masks]...)
	case planeMask2:
		dst = append(dst, mask2[:masks2]...)
		for _, b := range mask[:masks] {
			if b != 0 {
				dst = append(dst, b)
			}
		}
	}
	for i, m := range mask[:masks] {
		for ; m != 0; m &= m - 1 {
			dst = append(dst, plane[8*i+bits.TrailingZeros8(m)])
		}
	}
	return dst, kind
}
