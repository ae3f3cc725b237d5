package codec

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unsafe"
)

// Rows of version 1 have fewer than 64 samples, so that a plane is a word. A flush
// writes a great many of them: the planes of what is tried are made at once, their
// size is counted rather than estimated, and the cheapest are written as they are.

// short is one way to write the residuals of a short row.
type short struct {
	x        [codedRow]uint64 // residuals: of a sparse column those stored, one less than they are
	planes   [64]uint64       // of the residuals, as many as the highest has bits; if made
	lane     [codedRow]byte   // the lowest eight bits of the residuals, then zeros up to a multiple of eight
	m        int              // residuals
	made     bool             // planes are
	presence uint64           // of a sparse column: which residuals are stored
}

// exactTop is the number of bits up to which planes are made of everything that is
// tried. Above it, they are made of what is chosen.
const exactTop = 16

// makePlanes turns the lowest top bits of the residuals into planes.
func (s *short) makePlanes(top int) {
	groups := (s.m + 7) / 8
	keep := ^uint64(0) >> ((64 - 8*groups) & 63)
	for low := 0; low < top; low += 8 {
		var w [8]uint64
		if low == 0 {
			if useAVX2 && groups > 0 {
				tangleAVX2((*[8]uint64)(unsafe.Pointer(&s.lane)), (*[8]uint64)(s.planes[:]), keep)
				continue
			}
			for g := range groups {
				w[g&7] = binary.LittleEndian.Uint64(s.lane[8*g:])
			}
		} else {
			for g := range groups {
				x := (*[8]uint64)(s.x[8*g:])
				w[g&7] = uint64(byte(x[0]>>(low&63))) | uint64(byte(x[1]>>(low&63)))<<8 |
					uint64(byte(x[2]>>(low&63)))<<16 | uint64(byte(x[3]>>(low&63)))<<24 |
					uint64(byte(x[4]>>(low&63)))<<32 | uint64(byte(x[5]>>(low&63)))<<40 |
					uint64(byte(x[6]>>(low&63)))<<48 | uint64(byte(x[7]>>(low&63)))<<56
			}
		}
		p := (*[8]uint64)(s.planes[low:])
		switch {
		case useAVX2:
			tangleAVX2(&w, p, ^uint64(0))
		case groups <= 4:
			tangleShort(&w, p)
		default:
			tangleWords(&w)
			*p = w
		}
	}
	s.made = true
}

// tangleShort is tangleWords for 32 residuals: what untangleShort undoes.
func tangleShort(w, p *[8]uint64) {
	var a [4]uint64
	for g := range a {
		x := w[g]
		t := (x>>4 ^ x>>32) & (even4 & low32)
		a[g] = x ^ t<<4 ^ t<<32
	}
	a0, a1 := swap(a[0], a[1], 8, even8)
	a2, a3 := swap(a[2], a[3], 8, even8)
	a0, a2 = swap(a0, a2, 16, even16)
	a1, a3 = swap(a1, a3, 16, even16)
	a0, a1 = swap(a0, a1, 1, even1)
	a2, a3 = swap(a2, a3, 1, even1)
	a0, a2 = swap(a0, a2, 2, even2)
	a1, a3 = swap(a1, a3, 2, even2)
	p[0], p[1], p[2], p[3] = a0&low32, a1&low32, a2&low32, a3&low32
	p[4], p[5], p[6], p[7] = a0>>32, a1>>32, a2>>32, a3>>32
}

const (
	low7s  = 0x7f7f7f7f7f7f7f7f
	high1s = 0x8080808080808080
)

// someBytes returns the highest bits of those bytes of a plane that are not zero.
func someBytes(w uint64) uint64 { return (w&low7s + low7s | w) & high1s }

// planeBytes returns how many bytes a plane of so many takes, if it is not zero.
func planeBytes(w uint64, groups int) int {
	return min(1+bits.OnesCount64(someBytes(w)), groups)
}

// cost returns how many bytes the residuals take, of which the longest has top bits,
// in how many planes, and which of them are not zero.
func (s *short) cost(top int) (cost, width int, present uint64) {
	groups := (s.m + 7) / 8
	all, best := 0, 0 // of the planes passed: what they take, and what exceptions would save at most
	width = top
	planes := s.planes[:top]
	for p := len(planes) - 1; p >= 0; p-- {
		w := planes[p]
		present |= w
		if w != 0 {
			all += planeBytes(w, groups)
		}
		number := bits.OnesCount64(present)
		if number*8 > s.m {
			continue
		}
		exceptions := 2 + 2*number
		for q := p + 7; q < len(planes); q += 7 { // their high bits take more than one byte
			high := uint64(0)
			for _, w := range planes[q:] {
				high |= w
			}
			exceptions += bits.OnesCount64(high)
		}
		if saved := all + (top+3)/4 - (p+3)/4 - exceptions; saved > best {
			best, width = saved, p
		}
	}
	return all + (top+3)/4 - best, width, present
}

// offerShort is offer for short rows.
func (e *Encoder) offerShort(p plan, n int, best *plan) {
	s := e.tried
	u, lane := s.x[:n], s.lane[:n]
	all := uint64(0)
	if p.zigzag {
		for i, x := range u {
			z := zigzag(int64(x))
			u[i], lane[i] = z, byte(z)
			all |= z
		}
	} else {
		for i, x := range u {
			lane[i] = byte(x)
			all |= x
		}
	}
	top := bits.Len64(all)
	s.m, s.made, s.presence = n, false, 0
	if top > exactTop {
		e.offerLong(p, s, top, best)
		return
	}
	s.pad()
	s.makePlanes(top)
	var present uint64
	p.top = top
	p.cost, p.width, present = s.cost(top)
	if hasSlope(p.kind) {
		p.cost++
	}
	if zeros := n - bits.OnesCount64(present); zeros > n/4 && p.width > 1 {
		// One plane of presence, and the rest as if there were no zeros.
		extra := 2 + planeBytes(present, (n+7)/8) + slopeCost(p.kind)
		if extra < min(p.cost, best.cost) {
			t := e.spare
			t.compact(s, present)
			t.pad()
			top := bits.Len64(all - 1) // not less than that of the longest, less one
			t.makePlanes(top)
			for top > 0 && t.planes[top-1] == 0 {
				top--
			}
			if c, w, _ := t.cost(top); c+extra < p.cost {
				p.cost, p.width, p.sparse = c+extra, w, true
				s, e.tried, e.spare = t, t, s
			}
		}
	}
	if p.cost < best.cost {
		*best = p
		e.chosen, e.tried = s, e.chosen
	}
}

// offerLong offers residuals of many bits: with so many planes what they take is
// estimated.
func (e *Encoder) offerLong(p plan, s *short, top int, best *plan) {
	var lens [65]int32
	for _, x := range s.x[:s.m] {
		lens[bits.Len64(x)]++
	}
	n := s.m
	p.top = top
	p.cost, p.width = e.estimate(&lens, top, n)
	p.cost += slopeCost(p.kind)
	if zeros := int(lens[0]); zeros > n/4 && p.width > 1 {
		m := n - zeros
		c, w := e.estimate(&lens, top, m)
		if c += 2 + int(shortCost[n][min(m, zeros)]>>10) + slopeCost(p.kind); c < p.cost {
			p.cost, p.width, p.sparse = c, w, true
		}
	}
	if p.cost < best.cost {
		*best = p
		e.chosen, e.tried = s, e.chosen
	}
}

// slopeCost is what the slope takes at least.
func slopeCost(kind int) int {
	if hasSlope(kind) {
		return 1
	}
	return 0
}

// pad makes zero what is behind the residuals.
func (s *short) pad() {
	for i := s.m; i%8 != 0; i++ {
		s.x[i&63], s.lane[i&63] = 0, 0
	}
}

// compact takes from s the residuals that are present, each less one.
func (t *short) compact(s *short, present uint64) {
	m := 0
	for w := present; w != 0; w &= w - 1 {
		x := s.x[bits.TrailingZeros64(w)] - 1
		t.x[m&63], t.lane[m&63] = x, byte(x)
		m++
	}
	t.m, t.made, t.presence = m, false, present
}

// settle makes what is still missing of the chosen residuals, for plan p.
func (e *Encoder) settle(p *plan) *short {
	s := e.chosen
	if s.made {
		return s
	}
	if p.sparse {
		present := uint64(0)
		for i, x := range s.x[:s.m] {
			if x != 0 {
				present |= 1 << (i & 63)
			}
		}
		t := e.spare
		t.compact(s, present)
		e.chosen, e.spare, s = t, s, t
	}
	s.pad()
	s.makePlanes(p.width)
	return s
}

// appendPresence appends which of n residuals are stored.
func (s *short) appendPresence(dst []byte, n int) []byte {
	from := len(dst)
	dst = slices.Grow(dst, 1+8)
	b, at, kind := putPlane(dst[:cap(dst)], from+1, s.presence, (n+7)/8)
	b[from] = kind
	return b[:at]
}

// appendPlanes appends the lowest width planes, and how each is stored before them.
func (s *short) appendPlanes(dst []byte, width int) []byte {
	if width == 0 {
		return dst
	}
	groups := (s.m + 7) / 8
	kinds, at := len(dst), len(dst)+(width+3)/4
	dst = slices.Grow(dst, (width+3)/4+width*groups+8)
	b := dst[:cap(dst)]
	clear(b[kinds:at])
	for p, w := range s.planes[:width] {
		var kind byte
		b, at, kind = putPlane(b, at, w, groups)
		b[kinds+p/4] |= kind << (p % 4 * 2)
	}
	return b[:at]
}

// putPlane writes a plane of so many bytes to b[at:], where there is room for eight.
func putPlane(b []byte, at int, w uint64, groups int) ([]byte, int, byte) {
	some := someBytes(w)
	switch size := 1 + bits.OnesCount64(some); {
	case size == 1:
		return b, at, planeZero
	case size >= groups:
		binary.LittleEndian.PutUint64(b[at:], w)
		return b, at + groups, planeRaw
	default:
		b[at] = byte(some >> 7 * 0x0102040810204080 >> 56)
		at++
		for ; some != 0; some &= some - 1 {
			b[at] = byte(w >> (uint(bits.TrailingZeros64(some)-7) & 63))
			at++
		}
		return b, at, planeMask
	}
}
