package codec

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"sync"
)

// encodeBlock is the largest number of samples that the encoder puts in a
// block of a long row. Rows of a day at 15 s take 1 % more with blocks of half
// that length, and 0.6 % less with a single one.
const encodeBlock = maxBlock

// codedRow is the number of samples from which on rows are of version 2. In
// shorter ones codes save nothing, and take time.
const codedRow = 64

// Encoder writes packed rows of floats. Its zero value is ready for use. It
// keeps scratch memory between rows, about 100 KiB, and must not be used by two
// goroutines at once.
type Encoder struct {
	k           [maxBlock]int64  // the integers of the column at hand
	x           [maxBlock]uint64 // residuals of the best plan so far
	try         [maxBlock]uint64 // residuals of the plan being tried
	best        *[maxBlock]uint64
	trial       *[maxBlock]uint64
	shorts      [3]short // what e.best and e.trial are to short rows, and one to spare
	chosen      *short
	tried       *short
	spare       *short
	planes      [64][maxBlock / 8]byte
	presence    [maxBlock / 8]byte
	some        [maxBlock / 8]byte // of a plane, those bytes that are not zero
	version     byte               // of the row at hand, 2 also for 3
	slides      bool               // it uses kindSliding or above
	special     []special
	ulps        []int64 // corrections of the decimals in k, if any; in corrections
	corrections [maxBlock]int64
	row         []byte // of [Append]
}

// keptRow bounds the memory for rows that an encoder of the pool keeps, bytes.
const keptRow = 64 << 10

type special struct {
	pos  int
	bits uint64
}

var encoders = sync.Pool{New: func() any { return new(Encoder) }}

// Append is [Encoder.Append] with an encoder from a pool.
func Append(dst []byte, t []int64, v []float64, st []int64) []byte {
	e := encoders.Get().(*Encoder)
	if dst == nil { // grows once, to what is needed
		e.row = e.Append(e.row[:0], t, v, st)
		dst = append(dst, e.row...)
		if cap(e.row) > keptRow {
			e.row = nil
		}
	} else {
		dst = e.Append(dst, t, v, st)
	}
	encoders.Put(e)
	return dst
}

// Append appends to dst one packed row of the samples (t[i], v[i]) and returns
// the longer slice. t is in ms and strictly increasing. st holds the start
// timestamp of each sample in ms, 0 where it is unknown; nil, or nothing but
// zeros, stands for none and takes no space.
//
// It panics when the columns differ in length, when they hold no sample or
// more than [MaxSamples], and when t is not strictly increasing: all of them
// are mistakes of the caller that would otherwise lose data silently.
func (e *Encoder) Append(dst []byte, t []int64, v []float64, st []int64) []byte {
	n := len(t)
	if n == 0 || n > MaxSamples {
		panic(fmt.Sprintf("codec: %d samples in a row, must be 1 to %d", n, MaxSamples))
	}
	if len(v) != n || st != nil && len(st) != n {
		panic(fmt.Sprintf("codec: columns differ in length: %d timestamps, %d values, %d start timestamps", n, len(v), len(st)))
	}
	even := regular(t)
	if !even || !increases(t[0], t[min(1, n-1)], n) {
		if i := firstDisorder(t); i >= 0 {
			panic(fmt.Sprintf("codec: timestamps do not increase: %d follows %d", t[i], t[i-1]))
		}
	}
	if allZero(st) {
		st = nil
	}

	start := len(dst)
	var flags byte
	if st != nil {
		flags |= flagStart
	}
	block := n
	if n > encodeBlock && !(even && constant(v) && (st == nil || constantInts(st))) {
		// Blocks of equal length, a multiple of 64 so that planes have whole words.
		blocks := (n + encodeBlock - 1) / encodeBlock
		block = ((n+blocks-1)/blocks + 63) &^ 63
		flags |= flagBlocks
		if block >= n {
			block, flags = n, flags&^flagBlocks
		}
	}
	e.version, e.slides = version2, false
	if n < codedRow {
		e.version = version1
	}
	if even {
		flags |= flagRegular
	}
	dst = append(dst, e.version<<4|flags)
	dst = binary.AppendUvarint(dst, uint64(n))
	if flags&flagBlocks != 0 {
		dst = binary.AppendUvarint(dst, uint64(block))
	}
	if e.version == version2 && flags&flagRegular != 0 {
		dst = binary.AppendUvarint(dst, zigzag(t[0]))
		dst = binary.AppendUvarint(dst, uint64(t[1]-t[0]))
	}
	if flags&flagBlocks == 0 {
		dst = e.appendBlock(dst, flags, t[0], zigzag(t[0]), t, v, st)
		return e.finish(dst, start)
	}
	prev := int64(0)
	for lo := 0; lo < n; lo += block {
		hi := min(lo+block, n)
		first := uint64(t[lo] - prev)
		if lo == 0 {
			first = zigzag(t[0])
		}
		prev = t[lo]
		// The length goes before the block and is known only after it: two
		// bytes are enough for nearly every block; when not, the block moves.
		at := len(dst)
		dst = append(dst, 0, 0)
		var bst []int64
		if st != nil {
			bst = st[lo:hi]
		}
		dst = e.appendBlock(dst, flags, t[lo], first, t[lo:hi], v[lo:hi], bst)
		dst = putLength(dst, at)
	}
	return e.finish(dst, start)
}

// finish gives the row in dst[start:] its version and checksum.
func (e *Encoder) finish(dst []byte, start int) []byte {
	if e.slides {
		dst[start] = version3<<4 | dst[start]&15
	}
	return appendChecksum(dst, start)
}

// putLength writes the length of dst[at+2:] as a varint before it, over two
// bytes left free at dst[at:].
func putLength(dst []byte, at int) []byte {
	n := len(dst) - at - 2
	var buf [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(buf[:], uint64(n))
	if k > 2 {
		dst = append(dst, buf[:k-2]...)
	}
	if k != 2 {
		copy(dst[at+k:], dst[at+2:at+2+n])
		dst = dst[:at+k+n]
	}
	copy(dst[at:], buf[:k])
	return dst
}

func (e *Encoder) appendBlock(dst []byte, flags byte, t0 int64, first uint64, t []int64, v []float64, st []int64) []byte {
	if flags&flagRegular == 0 {
		dst = binary.AppendUvarint(dst, first)
		dst = e.appendInts(dst, t, columnTime, t0)
	} else if e.version == version1 {
		dst = binary.AppendUvarint(dst, first)
		if len(t) > 1 {
			dst = binary.AppendUvarint(dst, uint64(t[1]-t[0]))
		}
	}
	if st != nil {
		dst = e.appendInts(dst, st, columnStart, t0)
	}
	return e.appendValues(dst, v)
}

// firstDisorder returns the index of the first timestamp that is not above
// the one before it, or -1.
func firstDisorder(t []int64) int {
	for i := 1; i < len(t); i++ {
		if t[i] <= t[i-1] {
			return i
		}
	}
	return -1
}

// increases reports whether n timestamps increase that have the same distance, of which the
// first two are given: none may be beyond what an int64 holds.
func increases(first, second int64, n int) bool {
	step := uint64(second) - uint64(first)
	high, span := bits.Mul64(step, uint64(n-1))
	return second > first && high == 0 && span <= uint64(math.MaxInt64)-uint64(first)
}

func allZero(s []int64) bool {
	for _, x := range s {
		if x != 0 {
			return false
		}
	}
	return true
}

// regular reports whether the distance between samples is always the same.
func regular(t []int64) bool {
	if len(t) < 3 {
		return true
	}
	step := t[1] - t[0]
	var diff int64
	for i := 2; i < len(t); i++ {
		diff |= (t[i] - t[i-1]) ^ step
	}
	return diff == 0
}

func constantInts(s []int64) bool {
	for _, x := range s {
		if x != s[0] {
			return false
		}
	}
	return true
}

func constant(v []float64) bool {
	first := math.Float64bits(v[0])
	for _, x := range v {
		if math.Float64bits(x) != first {
			return false
		}
	}
	return true
}
