package codec

import "math"

// plausibleLayout reports whether the bucket layout at the start of a
// histogram chunk (chunkenc's header of 3 bytes, then zero threshold, schema
// and spans) names no more buckets than the chunk has bits. chunkenc allocates
// what the layout asks for before it reads any bucket, and every bucket takes
// at least one bit.
func plausibleLayout(chunk []byte) bool {
	const headerLen = 3
	if len(chunk) <= headerLen {
		return false
	}
	b := bitReader{b: chunk[headerLen:]}
	if b.read(8) == 255 {
		b.read(64) // zero threshold
	}
	b.varbit() // schema
	limit := uint64(len(chunk)) * 8
	for range 2 { // positive, negative
		spans, buckets := b.varbit(), uint64(0)
		if spans > limit {
			return false
		}
		for range spans {
			length := b.varbit()
			b.varbit() // offset
			if length > math.MaxUint32 {
				return false
			}
			if buckets += length; b.bad || buckets > limit {
				return false
			}
		}
	}
	return !b.bad
}

// bitReader reads bits, most significant first. After a read past the end, bad
// is set.
type bitReader struct {
	b   []byte
	pos int // in bits
	bad bool
}

func (r *bitReader) read(n int) uint64 {
	if n > len(r.b)*8-r.pos {
		r.bad = true
		return 0
	}
	var x uint64
	for range n {
		x = x<<1 | uint64(r.b[r.pos/8]>>(7-r.pos%8)&1)
		r.pos++
	}
	return x
}

// varbit reads a number in chunkenc's varbit encoding, of which the signed
// variant has the same lengths.
func (r *bitReader) varbit() uint64 {
	sizes := [...]int{0, 3, 6, 9, 12, 18, 25, 56, 64}
	ones := 0
	for ones < 8 && r.read(1) == 1 {
		ones++
	}
	return r.read(sizes[ones])
}
