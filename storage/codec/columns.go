package codec

import (
	"math"
	"math/bits"
	"slices"
	"sort"
	"sync"
)

// Columns holds decoded samples, one slice per column. The zero value is
// ready for use. Decoding appends to the slices and reuses their memory, so
// that nothing is allocated once they have grown.
type Columns struct {
	T []int64   // timestamps, ms
	V []float64 // values, as many as timestamps
	// ST holds start timestamps, ms, 0 where unknown. It is empty when no
	// decoded row had any, otherwise as long as T.
	ST []int64
}

// scratch is what decoding one column of a block needs, about 70 KiB. It comes
// from a pool rather than with Columns, of which a query may have many.
type scratch struct {
	planes [64][maxBlock / 8]byte
	lanes  [8][maxBlock]byte
	x      [maxBlock]uint64
	ints   [maxBlock]int64
	at     [maxBlock]uint16 // where the few residuals in x are that are not zero

	presence [maxBlock / 8]byte
	some     [maxBlock / 8]byte // of a plane, those bytes that are not zero
	times    []int64            // of a block of any length, for Bounds
	version  byte               // of the row at hand
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// decoder decodes one row.
type decoder struct {
	version byte
	s       *scratch // nil as long as nothing needed it: rows of a constant do not
}

func (d *decoder) scratch() *scratch {
	if d.s == nil {
		d.s = scratches.Get().(*scratch)
		d.s.version = d.version
	}
	return d.s
}

func (d *decoder) close() {
	if d.s != nil {
		scratches.Put(d.s)
	}
}

// Reset drops all samples and keeps the memory.
func (c *Columns) Reset() { c.T, c.V, c.ST = c.T[:0], c.V[:0], c.ST[:0] }

// Decode appends the samples of a row. On error, which wraps [ErrCorrupt], c
// holds the samples that it held before.
func (c *Columns) Decode(row []byte) error {
	return c.DecodeRange(row, math.MinInt64, math.MaxInt64)
}

// DecodeRange appends the samples of a row with mint <= t <= maxt (ms), and
// skips blocks that hold none. On error, which wraps [ErrCorrupt], c holds the
// samples that it held before.
func (c *Columns) DecodeRange(row []byte, mint, maxt int64) error {
	body, err := checked(row)
	if err != nil {
		return err
	}
	if body[0]&0xf == flagRegular && len(c.ST) == 0 {
		if done, err := c.decodeRegular(body, mint, maxt); done {
			return err
		}
	}
	r := reader{b: body}
	var h header
	if err := r.floatHeader(&h); err != nil {
		return err
	}
	nt, nst := len(c.T), len(c.ST)
	d := decoder{version: h.version}
	err = c.decodeBlocks(&d, r, &h, mint, maxt)
	d.close()
	if err != nil {
		c.T, c.V, c.ST = c.T[:nt], c.V[:nt], c.ST[:nst]
	}
	return err
}

// decodeRegular is DecodeRange for what nearly all rows are and whose headers take as long as their samples:
// a single block of regular timestamps, all of them wanted. It leaves others, and those that are not
// sound, as they are.
func (c *Columns) decodeRegular(body []byte, mint, maxt int64) (done bool, err error) {
	count, at := uvarintAt(body, 1)
	zz, at := uvarintAt(body, at)
	step, at := uvarintAt(body, at)
	first := unzigzag(zz)
	high, span := bits.Mul64(step, count-1)
	version := body[0] >> 4
	switch {
	case version < version1 || version > version3 || at+2 > len(body) || count < 2 || count > MaxSamples:
		return false, nil
	case step == 0 || high != 0 || span > uint64(math.MaxInt64)-uint64(first):
		return false, nil
	case first < mint || first+int64(span) > maxt:
		return false, nil
	}
	n, nt := int(count), len(c.T)
	c.T = slices.Grow(c.T, n)[:nt+n]
	c.V = slices.Grow(c.V, n)[:nt+n]
	ramp(c.T[nt:], first, int64(step))
	v := c.V[nt:]
	if head := body[at]; body[at+1] == 0 && head&7 == kindLevel && head < scaleBits<<headerScaleShift {
		// A constant.
		if base, end := uvarintAt(body, at+2); end == len(body) {
			repeat(v, float64(unzigzag(base))/pow10[head>>headerScaleShift])
			return true, nil
		}
	}
	d := decoder{version: version}
	r := reader{b: body[at:]}
	err = d.decodeValues(&r, v)
	d.close()
	if err == nil && len(r.b) != 0 {
		err = corrupt("%d bytes after the values of a block", len(r.b))
	}
	if err != nil {
		c.T, c.V = c.T[:nt], c.V[:nt]
	}
	return true, err
}

func (c *Columns) decodeBlocks(d *decoder, r reader, h *header, mint, maxt int64) error {
	if h.flags&flagBlocks == 0 { // nothing to skip, and rows fresh from a flush are many
		first := h.first
		if !h.uniform() {
			first = r.varint()
		}
		if r.bad {
			return corrupt("block is cut off")
		}
		if first > maxt {
			return nil
		}
		return c.decodeBlock(d, &r, h, h.count, first, mint, maxt)
	}
	it := blockIterator{r: r, h: *h}
	for it.next() {
		if it.first > maxt {
			return nil
		}
		if it.hasNext && it.nextFirst <= mint {
			continue
		}
		if err := c.decodeBlock(d, &it.body, h, it.count, it.first, mint, maxt); err != nil {
			return err
		}
	}
	return it.err
}

// blockIterator walks over the blocks of a row without decoding them.
type blockIterator struct {
	r    reader // what follows this block
	h    header
	done int // samples in the blocks up to and with this one

	count     int    // samples of this block
	first     int64  // its first timestamp
	body      reader // what follows that
	hasNext   bool   // there is another block
	nextFirst int64  // and its first timestamp
	err       error
}

func (b *blockIterator) next() bool {
	if b.err != nil {
		return false
	}
	if b.done == b.h.count {
		if len(b.r.b) != 0 {
			b.err = corrupt("%d bytes after the last block", len(b.r.b))
		}
		return false
	}
	started := b.done > 0
	b.count = min(b.h.block, b.h.count-b.done)
	b.done += b.count
	if b.h.flags&flagBlocks == 0 {
		b.body, b.r.b = b.r, nil
	} else {
		b.body = reader{b: b.r.bytes(int(min(b.r.uvarint(), MaxSamples*64)))}
	}
	b.hasNext = b.done < b.h.count
	switch {
	case b.h.uniform():
		b.first = b.h.first + int64(b.done-b.count)*b.h.step
		b.nextFirst = b.h.first + int64(b.done)*b.h.step // perhaps of no block, but does not matter then
	case started:
		b.body.uvarint()
		b.first = b.nextFirst
	default:
		b.first = b.body.varint()
	}
	if b.hasNext && !b.h.uniform() {
		ahead := b.r
		ahead.uvarint()
		b.nextFirst = int64(uint64(b.first) + ahead.uvarint())
		if ahead.bad || b.nextFirst <= b.first {
			b.err = corrupt("block starts wrongly")
		}
	}
	if b.body.bad || b.r.bad {
		b.err = corrupt("block is cut off")
	}
	return b.err == nil
}

// decodeBlock appends the samples of one block with mint <= t <= maxt. r
// stands after the first timestamp.
func (c *Columns) decodeBlock(d *decoder, r *reader, h *header, n int, first, mint, maxt int64) error {
	flags := h.flags
	nt := len(c.T)
	c.T = slices.Grow(c.T, n)[:nt+n]
	t := c.T[nt:]
	if err := d.decodeTimes(r, h, t, first); err != nil {
		return err
	}
	lo, hi := 0, n
	if mint > first {
		lo = sort.Search(n, func(i int) bool { return t[i] >= mint })
	}
	if maxt < t[n-1] {
		hi = sort.Search(n, func(i int) bool { return t[i] > maxt })
	}
	if lo >= hi {
		c.T = c.T[:nt]
		return nil
	}

	if nst := len(c.ST); flags&flagStart != 0 || nst > 0 {
		c.ST = slices.Grow(c.ST, nt+n-nst)[:nt+n]
		clear(c.ST[nst:])
		if flags&flagStart != 0 {
			st := c.ST[nt:]
			if err := d.decodeStarts(r, st, first); err != nil {
				return err
			}
			copy(st, st[lo:hi])
		}
		c.ST = c.ST[:nt+hi-lo]
	}

	c.V = slices.Grow(c.V, n)[:nt+n]
	v := c.V[nt:]
	if err := d.decodeValues(r, v); err != nil {
		return err
	}
	if len(r.b) != 0 {
		return corrupt("%d bytes after the values of a block", len(r.b))
	}
	if hi-lo < n {
		copy(t, t[lo:hi])
		copy(v, v[lo:hi])
		c.T, c.V = c.T[:nt+hi-lo], c.V[:nt+hi-lo]
	}
	return nil
}

// Count returns the number of samples that a row, of any encoding, says it has, and looks at
// nothing else: not at the checksum either.
func Count(row []byte) (int, error) {
	r := reader{b: row}
	var h header
	err := r.anyHeader(&h)
	return h.count, err
}

// Bounds returns the first and the last timestamp of a row of any encoding, in
// ms. It decodes at most the timestamps of one block of floats.
func Bounds(row []byte) (mint, maxt int64, err error) {
	body, err := checked(row)
	if err != nil {
		return 0, 0, err
	}
	if body[0]&flagHistogram != 0 {
		return histogramBounds(row)
	}
	r := reader{b: body}
	var h header
	if err := r.floatHeader(&h); err != nil {
		return 0, 0, err
	}
	d := decoder{version: h.version}
	defer d.close()
	s := d.scratch()
	it := blockIterator{r: r, h: h}
	for it.next() {
		if it.done == it.count {
			mint = it.first
		}
		if it.hasNext {
			continue
		}
		s.times = slices.Grow(s.times[:0], it.count)[:it.count]
		if err := d.decodeTimes(&it.body, &h, s.times, it.first); err != nil {
			return 0, 0, err
		}
		maxt = s.times[it.count-1]
	}
	return mint, maxt, it.err
}
