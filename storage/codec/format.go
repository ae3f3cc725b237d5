package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
)

// Encoding says how the data of a packed row is to be read. It is stored
// beside the row, not in it.
type Encoding int16

// The encodings of packed rows.
const (
	// EncodingFloat is a row of float64 samples: [Encoder.Append], [Columns].
	EncodingFloat Encoding = 1
	// EncodingHistogram is a row of native histograms with integer counts:
	// [AppendHistograms], [Histograms].
	EncodingHistogram Encoding = 2
	// EncodingFloatHistogram is a row of native histograms with float counts:
	// [AppendFloatHistograms], [Histograms].
	EncodingFloatHistogram Encoding = 3
)

func (e Encoding) String() string {
	switch e {
	case EncodingFloat:
		return "float"
	case EncodingHistogram:
		return "histogram"
	case EncodingFloatHistogram:
		return "floathistogram"
	default:
		return fmt.Sprintf("encoding(%d)", int16(e))
	}
}

// MaxSamples is the largest number of samples that one row can hold: more
// than a day at one sample per second. It also bounds what a decoder
// allocates for a row, whatever the row claims.
const MaxSamples = 1 << 17

// ErrCorrupt is wrapped by every error that says that the bytes of a row are
// not what an encoder of this package wrote.
var ErrCorrupt = errors.New("corrupt packed row")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

const (
	// Rows of histograms and short rows of floats are written in version 1,
	// others in version 2, or in version 3 if they use a kind that it adds.
	version1 = 1
	version2 = 2
	version3 = 3

	// First byte of a row: the version in the high four bits, these in the
	// low ones.
	flagBlocks  = 1 << 0 // more than one block
	flagRegular = 1 << 1 // all timestamp deltas are the same; in version 1 only inside of every block
	flagStart   = 1 << 2 // start timestamps are present

	// The row holds histograms. None of the above is then set.
	flagHistogram = 1 << 3

	checksumLen = 4

	// maxBlock is the largest number of samples of a block, unless the block
	// has no planes at all. It fixes the size of the scratch buffers.
	maxBlock = 2048
)

// Kinds: how the integers k of a column follow from the residuals x. See
// FORMAT.md.
const (
	kindLevel  = iota // k[i] = base + x[i]
	kindDelta         // k[i] = k[i-1] + slope + x[i]
	kindDelta2        // k[i] = k[i-1] + d[i], d[i] = d[i-1] + x[i]
	kindLine          // k[i] = base + i*slope + x[i]
	kindXOR           // k[i] = k[i-1] ^ x[i]

	// k[i] = k[i-1] + a>>s + x[i], after which a += x[i]: the mean of the
	// differences that slides by 1/2^s is the next one's prediction. In version 3
	// only, for s from 1 to 3.
	kindSliding
	numKinds = kindSliding + maxSliding
)

// maxSliding is the greatest s of kindSliding and up.
const maxSliding = 3

// sliding returns s of a kind from kindSliding on.
func sliding(kind int) uint { return uint(kind-kindSliding+1) & 3 }

// The first byte of a column header: kind in bits 0-2, then
const (
	headerZigzag     = 1 << 3 // residuals are zigzag encoded
	headerScaleShift = 4      // decimal scale, bits 4-7
)

// The second byte: number of planes in bits 0-6, then
const headerExtended = 1 << 7 // a third byte follows

// The third byte, present only when not zero.
const (
	extUnit       = 1 << 0 // residuals are multiples of a unit above 1
	extExceptions = 1 << 1 // some residuals have bits above the planes
	extSpecials   = 1 << 2 // some values are given as float64 bits
	extSparse     = 1 << 3 // only the residuals that are not zero are stored
	extCorrected  = 1 << 4 // a second column corrects the last places of the float64
	extAll        = extUnit | extExceptions | extSpecials | extSparse | extCorrected
)

const (
	maxScale  = 14 // the largest decimal scale
	scaleBits = 15 // in place of a scale: k is the bit pattern of the float64
)

// Plane kinds, two bits each.
const (
	planeZero  = iota // no bit is set; nothing is stored
	planeRaw          // every byte of the plane
	planeMask         // mask of the non-zero bytes, then those
	planeMask2        // mask of the non-zero bytes of that mask, those, then the non-zero bytes of the plane

	// The others, of version 2 only, take four bits.
	planeCoded                              // and up to byteCodes: every byte of the plane, in a code
	planeMaskCoded = planeCoded + byteCodes // and up: mask of the non-zero bytes in one of maskCodes, then those in codeNonzero
	numPlaneKinds  = planeMaskCoded + len(maskCodes)
)

// presenceInverted, beside the plane kind of the presence of residuals, says
// that the plane is that of those which are absent. (Version 2.)
const presenceInverted = 1 << 4

// Codes of special values, two bits each.
const (
	specialRaw    = iota // 8 bytes follow
	specialStale         // staleNaN
	specialNaN           // normalNaN
	specialRepeat        // the previous special value of this block again
)

const (
	staleNaN  uint64 = 0x7ff0000000000002 // Prometheus' stale marker
	normalNaN uint64 = 0x7ff8000000000001 // the NaN that strconv and math.NaN give
)

// pow10 holds the powers of ten that are exact as float64 and small enough to
// be a scale.
var pow10 = [maxScale + 1]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// UvarintLen is how many bytes binary.AppendUvarint adds for x.
func UvarintLen(x uint64) int { return (bits.Len64(x|1) + 6) / 7 }

func appendChecksum(dst []byte, start int) []byte {
	return binary.BigEndian.AppendUint32(dst, checksum(dst[start:]))
}

// checked returns row without its checksum, having verified that.
func checked(row []byte) ([]byte, error) {
	if len(row) < checksumLen+2 {
		return nil, corrupt("%d bytes are too few for a row", len(row))
	}
	body := row[:len(row)-checksumLen]
	if got, want := checksum(body), binary.BigEndian.Uint32(row[len(body):]); got != want {
		return nil, corrupt("checksum is %08x, must be %08x", got, want)
	}
	return body, nil
}

func zigzag(x int64) uint64   { return uint64(x<<1) ^ uint64(x>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func isSpecialBits(b uint64) bool { return b&^(1<<63) >= math.Float64bits(math.Inf(1)) }

// reader takes values off the front of b. After a read past the end, bad is
// set and stays set; values read then are zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	x := r.b[0]
	r.b = r.b[1:]
	return x
}

func (r *reader) uvarint() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 {
		x := r.b[0]
		r.b = r.b[1:]
		return uint64(x)
	}
	if len(r.b) >= 8 {
		if x, n := uvarintOf(binary.LittleEndian.Uint64(r.b)); n <= 8 {
			r.b = r.b[n:]
			return x
		}
	}
	x, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return x
}

// uvarintOf returns the uvarint that eight bytes begin with and its length, or a length above eight.
// Branches on it are predicted badly.
func uvarintOf(x uint64) (value uint64, length uint) {
	n := uint(bits.TrailingZeros64(^x&0x8080808080808080)) + 1 // 8 times its bytes
	x &= 0x7f7f7f7f7f7f7f7f & (1<<(n&63) - 1 | -(uint64(n) >> 6 & 1))
	x = x&0x007f007f007f007f | x&0x7f007f007f007f00>>1
	x = x&0x00003fff00003fff | x&0x3fff00003fff0000>>2
	return x&0x000000000fffffff | x&0x0fffffff00000000>>4, (n + 7) / 8
}

// uvarintAt returns the uvarint at b[at:] and where it ends: far behind the end of b if there is
// none, or none at that place.
func uvarintAt(b []byte, at int) (x uint64, end int) {
	if uint(at) < uint(len(b)) && b[at] < 0x80 {
		return uint64(b[at]), at + 1
	}
	if at+8 <= len(b) {
		if x, n := uvarintOf(binary.LittleEndian.Uint64(b[at:])); n <= 8 {
			return x, at + int(n)
		}
	}
	const nowhere = 1 << 30
	if at >= len(b) {
		return 0, nowhere
	}
	x, n := binary.Uvarint(b[at:])
	if n <= 0 {
		return 0, nowhere
	}
	return x, at + n
}

func (r *reader) varint() int64 { return unzigzag(r.uvarint()) }

func (r *reader) uint64() uint64 {
	if len(r.b) < 8 {
		r.bad, r.b = true, nil
		return 0
	}
	x := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return x
}

// bytes returns the next n bytes, or nil when there are fewer.
func (r *reader) bytes(n int) []byte {
	if uint(n) > uint(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	x := r.b[:n:n]
	r.b = r.b[n:]
	return x
}

// header is what stands before the samples of a row.
type header struct {
	version byte
	flags   byte
	count   int // samples in the row
	block   int // samples in every block but the last

	// Only of a uniform row:
	first int64 // first timestamp
	step  int64 // distance between timestamps
}

// uniform reports whether all timestamps of the row follow from its header.
func (h *header) uniform() bool { return h.version >= version2 && h.flags&flagRegular != 0 }

// anyHeader reads what the rows of every encoding begin with.
func (r *reader) anyHeader(h *header) error {
	first := r.byte()
	n := r.uvarint()
	if r.bad {
		return corrupt("header is cut off")
	}
	h.version = first >> 4
	if h.version < version1 || h.version > version3 {
		return corrupt("format version %d is not known", h.version)
	}
	if n == 0 || n > MaxSamples {
		return corrupt("%d samples", n)
	}
	h.flags, h.count, h.block, h.first, h.step = first&0xf, int(n), int(n), 0, 0
	return nil
}

// floatHeader reads the header of a row of floats.
func (r *reader) floatHeader(h *header) error {
	if err := r.anyHeader(h); err != nil {
		return err
	}
	if h.flags&flagHistogram != 0 {
		return corrupt("not a row of floats: flags %#x", h.flags)
	}
	if h.flags&flagBlocks != 0 {
		b := r.uvarint()
		if r.bad || b == 0 || b >= uint64(h.count) || b > maxBlock {
			return corrupt("blocks of %d samples in a row of %d", b, h.count)
		}
		h.block = int(b)
	}
	if h.uniform() {
		h.first = r.varint()
		if h.count > 1 {
			var err error
			if h.step, err = r.step(h.first, h.count); err != nil {
				return err
			}
		}
		if r.bad {
			return corrupt("header is cut off")
		}
	}
	return nil
}

// step reads the distance of n timestamps, of which the first is known.
func (r *reader) step(first int64, n int) (int64, error) {
	step := r.uvarint()
	high, span := bits.Mul64(step, uint64(n-1))
	if r.bad || step == 0 || high != 0 || span > uint64(math.MaxInt64)-uint64(first) {
		return 0, corrupt("timestamps with a step of %d ms", step)
	}
	return int64(step), nil
}

// histogramHeader reads the header of a row of histograms.
func (r *reader) histogramHeader(h *header) error {
	err := r.anyHeader(h)
	if err == nil && (h.version != version1 || h.flags != flagHistogram) {
		err = corrupt("not a row of histograms: version %d, flags %#x", h.version, h.flags)
	}
	return err
}
