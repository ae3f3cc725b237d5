package codec

import (
	"encoding/binary"
	"math/bits"
)

// tangleWords turns one byte per residual, of 64 of them, into eight planes: what
// untangleWords undoes.
func tangleWords(w *[8]uint64) {
	a0, a1 := swap(w[0], w[1], 8, even8)
	a2, a3 := swap(w[2], w[3], 8, even8)
	a0, a2 = swap(a0, a2, 16, even16)
	a1, a3 = swap(a1, a3, 16, even16)
	a4, a5 := swap(w[4], w[5], 8, even8)
	a6, a7 := swap(w[6], w[7], 8, even8)
	a4, a6 = swap(a4, a6, 16, even16)
	a5, a7 = swap(a5, a7, 16, even16)
	a0, a4 = a0&low32|a4<<32, a0>>32|a4&^low32
	a1, a5 = a1&low32|a5<<32, a1>>32|a5&^low32
	a2, a6 = a2&low32|a6<<32, a2>>32|a6&^low32
	a3, a7 = a3&low32|a7<<32, a3>>32|a7&^low32

	a0, a1 = swap(a0, a1, 1, even1)
	a2, a3 = swap(a2, a3, 1, even1)
	a0, a2 = swap(a0, a2, 2, even2)
	a1, a3 = swap(a1, a3, 2, even2)
	a4, a5 = swap(a4, a5, 1, even1)
	a6, a7 = swap(a6, a7, 1, even1)
	a4, a6 = swap(a4, a6, 2, even2)
	a5, a7 = swap(a5, a7, 2, even2)
	w[0], w[4] = swap(a0, a4, 4, even4)
	w[1], w[5] = swap(a1, a5, 4, even4)
	w[2], w[6] = swap(a2, a6, 4, even4)
	w[3], w[7] = swap(a3, a7, 4, even4)
}

// appendPlanes appends the lowest width bits of u as bit planes of version 2. u must have
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
		for at := 0; at < groups; at += 8 {
			var words [8]uint64
			for g := range min(groups-at, 8) {
				b := (*[8]uint64)(u[8*(at+g):])
				words[g&7] = uint64(byte(b[0]>>(s&63))) | uint64(byte(b[1]>>(s&63)))<<8 |
					uint64(byte(b[2]>>(s&63)))<<16 | uint64(byte(b[3]>>(s&63)))<<24 |
					uint64(byte(b[4]>>(s&63)))<<32 | uint64(byte(b[5]>>(s&63)))<<40 |
					uint64(byte(b[6]>>(s&63)))<<48 | uint64(byte(b[7]>>(s&63)))<<56
			}
			tangleWords(&words)
			for p := range min(width-s, 8) {
				binary.LittleEndian.PutUint64(e.planes[s+p][at:], words[p&7])
			}
		}
	}
	// The lowest planes are noise: how many are raw stands before the kinds of
	// the others.
	raw, enough := 0, noCode(n)*n
	for raw < width && 1024*ones(e.planes[raw][:groups]) >= enough {
		raw++
	}
	dst = append(dst, byte(raw))
	kinds := len(dst)
	for range (width - raw + 1) / 2 {
		dst = append(dst, 0)
	}
	for p := range raw {
		dst = append(dst, e.planes[p][:groups]...)
	}
	for p := range width - raw {
		var kind byte
		dst, kind = e.appendPlane(dst, e.planes[raw+p][:groups], n)
		dst[kinds+p/2] |= kind << (p % 2 * 4)
	}
	return dst
}

func ones(plane []byte) int {
	n := 0
	for ; len(plane) >= 8; plane = plane[8:] {
		n += bits.OnesCount64(binary.LittleEndian.Uint64(plane))
	}
	for _, b := range plane {
		n += bits.OnesCount8(b)
	}
	return n
}

// appendPlane appends one plane of n bits in the smallest of its forms, in version 2.
func (e *Encoder) appendPlane(dst, plane []byte, n int) ([]byte, byte) {
	var mask [maxBlock / 64]byte
	nonzero, set := 0, 0
	for i, b := range plane {
		if b != 0 {
			mask[i/8] |= 1 << (i % 8)
			nonzero++
			set += bits.OnesCount8(b)
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
		kind, size = planeMask2, masks2+used+nonzero
	}
	code := 0
	some := e.some[:0]
	if share := 1024 * set / n; share < noCode(n) {
		if share >= codeFrom[byteCodes-1] {
			for share < codeFrom[code] {
				code++
			}
			if (codedLen(code, plane)+7)/8 < size {
				kind = planeCoded + byte(code)
			}
		} else {
			which := 0
			for share < maskFrom[which] {
				which++
			}
			code = maskCodes[which]
			some = appendNonzero(some, plane, mask[:masks])
			if (codedLen(code, mask[:masks])+codedLen(codeNonzero, some)+7)/8 < size {
				kind = planeMaskCoded + byte(which)
			}
		}
	}
	switch {
	case kind == planeRaw:
		return append(dst, plane...), kind
	case kind >= planeMaskCoded:
		w := bitWriter{dst: dst, free: 64}
		w.write(code, mask[:masks])
		w.write(codeNonzero, some)
		return w.close(), kind
	case kind >= planeCoded:
		w := bitWriter{dst: dst, free: 64}
		w.write(code, plane)
		return w.close(), kind
	case kind == planeMask:
		dst = append(dst, mask[:masks]...)
	case kind == planeMask2:
		dst = append(dst, mask2[:masks2]...)
		for _, b := range mask[:masks] {
			if b != 0 {
				dst = append(dst, b)
			}
		}
	}
	return appendNonzero(dst, plane, mask[:masks]), kind
}

// appendNonzero appends the bytes of a plane that are not zero, as its mask
// says.
func appendNonzero(dst, plane, mask []byte) []byte {
	for i, m := range mask {
		for ; m != 0; m &= m - 1 {
			dst = append(dst, plane[8*i+bits.TrailingZeros8(m)])
		}
	}
	return dst
}
