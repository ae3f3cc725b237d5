package codec

import (
	"encoding/binary"
	"math/bits"
)

// Planes in which ones are rare, but not so rare that leaving out zero bytes
// makes them small, are written as prefix codes of their bytes. The codes are
// fixed: those of package-merge for bytes of eight independent bits that are
// one with a certain probability each, and at most codeLen bits long.

const (
	codeLen     = 12                 // bits of the longest code
	quickLen    = 10                 // bits by which nearly all codes are known
	byteCodes   = 7                  // codes for the bytes of a plane or of a mask
	codeNonzero = byteCodes          // the code for those bytes that are not zero
	numCodes    = byteCodes + 1      //
	perWord     = (64 - 8) / codeLen // codes that surely are in 8 bytes, wherever in the first they begin
)

// codeLengths says for each code and each number of ones how long the codes of
// the bytes with so many ones are: of the first of them (in numerical order) as
// long as said, of the others one bit longer.
var codeLengths = [numCodes][9]struct{ length, first uint8 }{
	{{6, 1}, {6, 5}, {7, 28}, {8, 56}, {8, 70}, {9, 56}, {9, 27}, {10, 8}, {10, 1}},    // ones: 0.40
	{{4, 1}, {5, 8}, {6, 5}, {7, 1}, {9, 70}, {10, 56}, {11, 27}, {12, 8}, {12, 1}},    // 0.32
	{{3, 1}, {5, 8}, {6, 10}, {8, 56}, {9, 5}, {11, 55}, {12, 28}, {12, 8}, {12, 1}},   // 0.25
	{{2, 1}, {4, 3}, {6, 2}, {8, 2}, {10, 3}, {11, 1}, {12, 28}, {12, 8}, {12, 1}},     // 0.195
	{{2, 1}, {4, 5}, {7, 28}, {9, 31}, {11, 1}, {12, 56}, {12, 28}, {12, 8}, {12, 1}},  // 0.15
	{{2, 1}, {4, 6}, {7, 28}, {10, 54}, {11, 1}, {12, 56}, {12, 28}, {12, 8}, {12, 1}}, // 0.115
	{{1, 1}, {4, 2}, {7, 3}, {11, 53}, {12, 70}, {12, 56}, {12, 28}, {12, 8}, {12, 1}}, // 0.085
	{{0, 0}, {3, 6}, {8, 8}, {11, 5}, {12, 70}, {12, 56}, {12, 28}, {12, 8}, {12, 1}},  // 0.03, no zero bytes
}

// maskCodes are the codes of the masks of planeMaskCoded and up.
var maskCodes = [...]int{0, 1, 2, 4, 6}

// A plane of which at least codeFrom[i]/1024 of the bits are one is best
// written with code i, one with at least maskFrom[i]/1024 with mask code i.
var (
	codeFrom = [byteCodes]int{355, 274, 207, 168, 151, 113, 69}
	maskFrom = [len(maskCodes)]int{53, 39, 29, 15, 0}
)

// noCode is the share of ones, in 1/1024, from which on a plane of n bits is best
// left as it is. In short ones a code saves less than saying which one it is; in
// long ones it would save up to 3 % of a plane from here to 456, 0.2 % of all
// bytes, and these planes would be a third of those whose codes are to be read.
func noCode(n int) int {
	switch {
	case n < 256:
		return 330
	case n < 1024:
		return 355
	default:
		return 380
	}
}

// symbol is a byte, in the high eight bits, and the length of its code.
type symbol uint16

// decoding gives for each codeLen bits the byte whose code they begin with.
// encoding gives for each byte its code, and its length in the low four bits.
var decoding, encoding = func() (dec [numCodes][1 << codeLen]symbol, enc [numCodes][256]uint16) {
	for c, lengths := range codeLengths {
		var length [256]uint8
		var used [9]uint8
		for b := range 256 {
			ones := bits.OnesCount8(uint8(b))
			l := lengths[ones]
			if l.length == 0 {
				continue
			}
			length[b] = l.length
			if used[ones] >= l.first {
				length[b]++
			}
			used[ones]++
		}
		next := 0
		for l := uint8(1); l <= codeLen; l++ {
			for b := range 256 {
				if length[b] != l {
					continue
				}
				enc[c][b] = uint16(next>>(codeLen-l))<<4 | uint16(l)
				for range 1 << (codeLen - l) {
					dec[c][next] = symbol(b)<<8 | symbol(l)
					next++
				}
			}
		}
	}
	return dec, enc
}()

// quickDecoding is decoding for the codes of at most quickLen bits, and zero where they are longer. All of its 16 KiB
// are in use at any time, as the bits of a good code are as good as random: decoding itself, four times as large,
// would not stay in the nearest cache, and the time that a look at it takes is the time that a symbol takes.
var quickDecoding = func() (quick [numCodes][1 << quickLen]symbol) {
	for c := range quick {
		for i := range quick[c] {
			if s := decoding[c][i<<(codeLen-quickLen)]; s&0xff <= quickLen {
				quick[c][i] = s
			}
		}
	}
	return quick
}()

// bitWriter appends codes, the highest bits of a byte first.
type bitWriter struct {
	dst  []byte
	acc  uint64
	free int // bits of acc that are not taken; 64 at first
}

// write appends the codes of some bytes.
func (w *bitWriter) write(code int, b []byte) {
	table := &encoding[code]
	acc, free := w.acc, w.free
	for _, x := range b {
		e := table[x]
		l := int(e & 15)
		if free < l {
			w.dst = binary.BigEndian.AppendUint32(w.dst, uint32(acc>>32))
			acc <<= 32
			free += 32
		}
		free -= l
		acc |= uint64(e>>4) << (free & 63)
	}
	w.acc, w.free = acc, free
}

// close appends what is left, up to a whole byte.
func (w *bitWriter) close() []byte {
	for ; w.free < 64; w.free += 8 {
		w.dst = append(w.dst, byte(w.acc>>56))
		w.acc <<= 8
	}
	return w.dst
}

// codedLen returns how many bits the codes of some bytes take.
func codedLen(code int, b []byte) int {
	table := &encoding[code]
	n := 0
	for _, x := range b {
		n += int(table[x] & 15)
	}
	return n
}

// codeReader reads what bitWriter wrote.
type codeReader struct {
	b   []byte
	pos int // bits that are read
}

// symbolOf returns the symbol whose code the highest bits of w are.
func symbolOf(w uint64, quick *[1 << quickLen]symbol, table *[1 << codeLen]symbol) symbol {
	if s := quick[w>>(64-quickLen)]; s != 0 {
		return s
	}
	return table[w>>(64-codeLen)]
}

// read reads the codes of the bytes of dst. What lies behind the end of the
// input is taken for zeros: whether there was enough is seen in the end.
func (r *codeReader) read(code int, dst []byte) {
	quick, table := &quickDecoding[code&(numCodes-1)], &decoding[code&(numCodes-1)]
	b, pos := r.b, r.pos
	for len(dst) >= perWord && pos>>3+8 <= len(b) {
		// w has the next bits of the input, the first of them highest, of which have count: 56 or more each time around.
		// What is put behind them is read from where the time before said, so that no symbol waits for that.
		at := pos>>3 + 8
		w := binary.BigEndian.Uint64(b[at-8:]) << (pos & 7)
		have := 64 - pos&7
		for {
			d := (*[perWord]byte)(dst)
			s0 := symbolOf(w, quick, table)
			w <<= s0 & 63
			s1 := symbolOf(w, quick, table)
			w <<= s1 & 63
			s2 := symbolOf(w, quick, table)
			w <<= s2 & 63
			s3 := symbolOf(w, quick, table)
			w <<= s3 & 63
			d[0], d[1], d[2], d[3] = byte(s0>>8), byte(s1>>8), byte(s2>>8), byte(s3>>8)
			have -= int((s0 + s1 + s2 + s3) & 0xff)
			dst = dst[perWord:]
			if len(dst) < perWord || at+8 > len(b) {
				break
			}
			w |= binary.BigEndian.Uint64(b[at:]) >> (have & 63)
			at += (63 - have) >> 3
			have |= 56
		}
		pos = 8*at - have
	}
	if len(dst) > 0 {
		// Either few bytes of dst are left, or fewer than 8 of b.
		w := firstWord(b[min(pos>>3, len(b)):]) << (pos & 7)
		for i := range dst {
			s := symbolOf(w, quick, table)
			dst[i] = byte(s >> 8)
			w <<= s & 63
			pos += int(s & 63)
		}
	}
	r.pos = pos
}

// firstWord returns the first eight bytes of b, the highest first, as if zeros
// were behind it.
func firstWord(b []byte) uint64 {
	switch n := len(b); {
	case n >= 8:
		return binary.BigEndian.Uint64(b)
	case n >= 4: // the two overlap
		return uint64(binary.BigEndian.Uint32(b))<<32 | uint64(binary.BigEndian.Uint32(b[n-4:]))<<(8*(8-n)&63)
	case n >= 2:
		return uint64(binary.BigEndian.Uint16(b))<<48 | uint64(binary.BigEndian.Uint16(b[n-2:]))<<(8*(8-n)&63)
	case n == 1:
		return uint64(b[0]) << 56
	default:
		return 0
	}
}

// end moves from behind the codes that were read. It returns false when they
// end behind it.
func (r *codeReader) end(from *reader) bool {
	from.bytes((r.pos + 7) / 8)
	return !from.bad
}
