package codec

import "math/bits"

// residuals reads the residuals of a column into s.x[:n].
func (s *scratch) residuals(r *reader, c column, n int) error {
	if c.ext&extSparse == 0 {
		return s.dense(r, c, n)
	}
	kind := r.byte()
	presence := s.presence[:(n+7)/8]
	if r.bad || kind > planeMask2 || !r.plane(presence, kind) {
		return corrupt("presence of residuals is cut off or malformed")
	}
	m := 0
	for _, b := range presence {
		m += bits.OnesCount8(b)
	}
	if n%8 != 0 && presence[n/8]>>(n%8) != 0 {
		return corrupt("presence of residuals outside of their block")
	}
	if err := s.dense(r, c, m); err != nil {
		return err
	}
	x := s.x[:n]
	for i := n - 1; i >= 0; i-- {
		if presence[i/8]>>(i%8)&1 == 0 {
			x[i] = 0
			continue
		}
		m--
		x[i] = x[m] + 1
	}
	return nil
}

// dense reads planes and exceptions into s.x[:n].
func (s *scratch) dense(r *reader, c column, n int) error {
	groups := (n + 7) / 8
	kinds := r.bytes((c.width + 3) / 4)
	if r.bad {
		return corrupt("plane kinds are cut off")
	}
	for p := range c.width {
		plane := s.planes[p][:groups]
		if !r.plane(plane, kinds[p/4]>>(p%4*2)&3) {
			return corrupt("planes are cut off or malformed")
		}
	}
	for p := c.width; p%8 != 0; p++ {
		clear(s.planes[p][:groups])
	}
	x := s.x[:groups*8]
	if c.width == 0 {
		clear(x)
	}
	for low := 0; low < c.width; low += 8 {
		pl := s.planes[low : low+8 : low+8]
		for g := range groups {
			m := uint64(pl[0][g]) | uint64(pl[1][g])<<8 | uint64(pl[2][g])<<16 | uint64(pl[3][g])<<24 |
				uint64(pl[4][g])<<32 | uint64(pl[5][g])<<40 | uint64(pl[6][g])<<48 | uint64(pl[7][g])<<56
			m = transpose(m)
			b := x[8*g : 8*g+8 : 8*g+8]
			for i := range 8 {
				y := m >> (8 * i) & 0xff << low
				if low == 0 {
					b[i] = y
				} else {
					b[i] |= y
				}
			}
		}
	}
	if c.ext&extExceptions != 0 {
		return r.exceptions(s.x[:n], c.width)
	}
	return nil
}

// plane reads one plane.
func (r *reader) plane(plane []byte, kind byte) bool {
	var mask [maxBlock / 64]byte
	masks := (len(plane) + 7) / 8
	switch kind {
	case planeZero:
		clear(plane)
		return true
	case planeRaw:
		copy(plane, r.bytes(len(plane)))
		return !r.bad
	case planeMask:
		copy(mask[:], r.bytes(masks))
	case planeMask2:
		mask2 := r.bytes((masks + 7) / 8)
		if r.bad || !r.scatter(mask[:masks], mask2) {
			return false
		}
	}
	return !r.bad && r.scatter(plane, mask[:masks])
}

// scatter reads the bytes of dst whose bits are set in mask; the others are zero.
func (r *reader) scatter(dst, mask []byte) bool {
	clear(dst)
	for i, m := range mask {
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
