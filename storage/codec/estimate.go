package codec

import "math"

// filled[q] is the share, in 1/1024, of groups of 8 (filled8) or 64 (filled64)
// in which at least one of the bits is set, when q/64 of all bits are.
var filled8, filled64 = func() (f8, f64 [65]int32) {
	for q := range f8 {
		empty := 1.0
		for range 8 {
			empty *= 1 - float64(q)/64
		}
		f8[q] = int32(1024 * (1 - empty))
		empty8 := empty
		for range 7 {
			empty *= empty8
		}
		f64[q] = int32(1024 * (1 - empty))
	}
	return f8, f64
}()

// entropy[q] is the entropy of a bit that is one with probability q/1024, in
// 1/1024 bytes: what one costs in a plane that is coded.
var entropy = func() (h [1025]int32) {
	for q := 1; q < 1024; q++ {
		p := float64(q) / 1024
		h[q] = int32(math.Round(-128 * (p*math.Log2(p) + (1-p)*math.Log2(1-p)) * 1.015))
	}
	return h
}()

// planeSize is what the cost of a plane depends on, besides its bits.
type planeSize struct {
	groups, masks, masks2 int32 // bytes
	perBit                int32 // 64 / bits, times 1<<16; of coded planes 1024 / bits
	coded                 bool
	bits                  int32
	kind                  int32 // what its kind takes
}

func newPlaneSize(version byte, n int) planeSize {
	s := planeSize{groups: int32(n+7) / 8, perBit: 64 << 16 / int32(n), bits: int32(n), kind: 256}
	if version == version2 {
		s.coded, s.perBit, s.kind = true, 1024<<16/int32(n), 512
	}
	s.masks = (s.groups + 7) / 8
	s.masks2 = (s.masks + 7) / 8
	return s
}

// cost estimates the size in 1/1024 bytes of a plane of which so many bits are
// set.
func (s planeSize) cost(ones int32) int32 {
	if s.coded {
		// The code is chosen by the whole number of ones: that costs little.
		return min(s.groups<<10, 1024+s.bits*entropy[int64(min(ones, s.bits))*int64(s.perBit)>>16])
	}
	nonzero, mask := min(ones, s.groups)<<10, min(ones, s.masks)<<10
	if q := ones * s.perBit >> 16; q > 0 {
		nonzero = min(nonzero, s.groups*filled8[q])
		mask = min(mask, s.masks*filled64[q])
	}
	return min(s.groups<<10, s.masks<<10+nonzero, s.masks2<<10+mask+nonzero)
}

// shortCost holds the costs of the planes of short rows, by their bits and how
// many of these are set: a flush writes many such rows.
var shortCost = func() (t [codedRow][codedRow]int32) {
	for n := 1; n < codedRow; n++ {
		size := newPlaneSize(version1, n)
		for ones := range n + 1 {
			t[n][ones] = size.cost(int32(ones))
		}
	}
	return t
}()

// estimate returns about how many bytes n residuals take, and in how many
// planes, given how many residuals have which length in bits. None is longer
// than top.
func (e *Encoder) estimate(lens *[65]int32, top, n int) (cost, width int) {
	if top == 0 {
		return 0, 0
	}
	var size planeSize
	var short *[codedRow]int32
	if e.version == version1 {
		short, size.kind, size.groups = &shortCost[n], 256, int32(n+7)/8
	} else {
		size = newPlaneSize(version2, n)
	}
	// Costs are in 1/1024 bytes. From the highest plane down: all costs the
	// planes passed, saved is the most that storing the bits of some of them
	// as exceptions saves, down to width.
	all, saved, above := int32(0), int32(0), int32(0)
	width = top
	for p := top - 1; p >= 0; p-- {
		// The highest bit of a residual is set, half of the others are.
		ones := max(1, lens[p+1]+above/2)
		above += lens[p+1]
		if short != nil {
			all += short[min(ones, int32(n))] + size.kind
		} else {
			all += size.cost(ones) + size.kind
		}
		if above*8 > int32(n) {
			if short != nil && short[above/2] == size.groups<<10 { // so are all below
				all += int32(p) * (size.groups<<10 + size.kind)
				break
			}
			continue
		}
		// A list of exceptions costs two bytes, an exception one and a byte for
		// every seven bits.
		exceptions := int32(2 << 10)
		if all-exceptions-above<<11 <= saved {
			continue
		}
		for b := p + 1; b <= top; b++ {
			exceptions += lens[b] << 10 * int32(1+(b-p+6)/7)
		}
		if s := all - exceptions; s > saved {
			saved, width = s, p
		}
	}
	return int(all-saved+1023) >> 10, width
}
