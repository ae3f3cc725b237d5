//go:build !purego

package codec

import (
	"hash/crc32"
	"math"
	"unsafe"
)

// useAVX2 says whether this processor has the instructions of the kernels. It is a variable for the tests, which try both.
var useAVX2 = hasAVX2()

func hasAVX2() bool

// untangleAVX2 is untangle for so many words of eight planes.
//
//go:noescape
func untangleAVX2(planes *[8]*byte, lane *byte, words int)

// untangleWordsAVX2 is untangleWords.
//
//go:noescape
func untangleWordsAVX2(p *[8]uint64, out *[64]byte)

// tangleAVX2 is tangleWords, from w to planes, of whose bits it leaves those that are set in keep.
//
//go:noescape
func tangleAVX2(w, planes *[8]uint64, keep uint64)

// integrateFloatsAVX2 computes n values of a column, and divides them. Their residuals are int32 in 1 to 4 lanes, each stride
// bytes behind the one before and as long as a multiple of eight. The values and all that they are computed from, with
// the residuals summed up order times, are below 2^53 before the division, so that each is exact.
//
//go:noescape
func integrateFloatsAVX2(k *float64, lanes *byte, stride, count, n int, base, slope, unit, divisor float64, order, zigzag int)

// integrateIntsAVX2 computes n integers of a column. Their residuals, summed up order times, are below 2^31, as the unit is. high may
// be nil.
//
//go:noescape
func integrateIntsAVX2(k *int64, low, high *byte, n int, base, slope, unit int64, order, zigzag int)

// rampIntsAVX2 is ramp for n integers, a multiple of eight and not zero.
//
//go:noescape
func rampIntsAVX2(k *int64, n int, x, step int64)

// rampFloatsAVX2 is ramp for n values, a multiple of eight and not zero, and those and the eight that would follow are
// below 2^53.
//
//go:noescape
func rampFloatsAVX2(k *float64, n int, x, step float64)

// increasesAVX2 reports whether each of the first n integers, a multiple of four and not zero, is below the one behind it.
//
//go:noescape
func increasesAVX2(t *int64, n int) bool

// castagnoliSSE42 is the CRC-32C of n bytes. Each processor with AVX2 has it.
//
//go:noescape
func castagnoliSSE42(b *byte, n int) uint32

// integrateFast computes the integers of a column from residuals in count lanes, each stride bytes behind the one before. Of
// values it makes what they are in the end, and notes that they are divided. It returns false if it did nothing, as a column
// of this kind, or with numbers as large, is none for a kernel. Lanes must have room for a multiple of eight.
func integrateFast[T number](c *column, k []T, lanes *byte, stride, count int) bool {
	n := len(k)
	if !useAVX2 || n < 8 || c.unit >= 1<<31 || count > 3 && (count > 4 || !c.zigzag) {
		return false
	}
	order, slope := 0, c.slope
	switch c.kind {
	case kindLevel:
		slope = 0
	case kindLine:
	case kindDelta:
		order = 1
	case kindDelta2:
		order = 2
		for l := range count {
			if *(*byte)(unsafe.Add(unsafe.Pointer(lanes), l*stride)) != 0 { // the first has no part in the slope
				return false
			}
		}
	default:
		return false
	}
	// Sums of residuals are up to n times the greatest, sums of sums n*(n+1)/2 times.
	greatest := float64(uint64(1)<<(8*count&63)) * sums(order, n)
	zz := 0
	if c.zigzag {
		zz = 1
	}
	switch k := any(unsafe.SliceData(k)).(type) {
	case *int64:
		if count > 2 || greatest >= 1<<31 {
			return false
		}
		var high *byte
		if count == 2 {
			high = (*byte)(unsafe.Add(unsafe.Pointer(lanes), stride))
		}
		integrateIntsAVX2(k, lanes, high, n, c.base, slope, int64(c.unit), order, zz)
	case *float64:
		base, line, unit := float64(c.base), float64(slope), float64(c.unit)
		if math.Abs(base)+math.Abs(line)*float64(n+8)+greatest*max(unit, 1) >= 1<<52 {
			return false
		}
		integrateFloatsAVX2(k, lanes, stride, count, n, base, line, unit, pow10[c.scale], order, zz)
		c.divided = true
	}
	return true
}

// sums is how many times the greatest of n and up to seven more a sum is of them, or of such sums if order is 2.
func sums(order, n int) float64 {
	n += 7
	switch order {
	case 0:
		return 1
	case 1:
		return float64(n)
	default:
		return float64(n * (n + 1) / 2)
	}
}

// rampFast does the first samples of a ramp, and returns how many.
func rampFast[T number](k []T, x, step int64) int {
	n := len(k) &^ 7
	if !useAVX2 || n == 0 {
		return 0
	}
	switch k := any(unsafe.SliceData(k)).(type) {
	case *int64:
		rampIntsAVX2(k, n, x, step)
	case *float64:
		x, step := float64(x), float64(step)
		if math.Abs(x)+math.Abs(step)*float64(n+8) >= 1<<52 {
			return 0
		}
		rampFloatsAVX2(k, n, x, step)
	}
	return n
}

// repeatFast does the first values of repeat, and returns how many.
func repeatFast(v []float64, x float64) int {
	n := len(v) &^ 7
	if !useAVX2 || n == 0 {
		return 0
	}
	rampIntsAVX2((*int64)(unsafe.Pointer(unsafe.SliceData(v))), n, int64(math.Float64bits(x)), 0)
	return n
}

// increasing reports whether each timestamp, of one at least, is above the one before it.
func increasing(t []int64) bool {
	n := (len(t) - 1) &^ 3
	if !useAVX2 || n == 0 {
		return firstDisorder(t) < 0
	}
	return increasesAVX2(unsafe.SliceData(t), n) && firstDisorder(t[n:]) < 0
}

// checksum is the CRC-32C of b. The one of the library takes as long for what is before the first and behind the last
// aligned eight bytes as for a short row; of much it does three parts at once.
func checksum(b []byte) uint32 {
	if !useAVX2 || len(b) >= 512 {
		return crc32.Checksum(b, castagnoli)
	}
	return castagnoliSSE42(unsafe.SliceData(b), len(b))
}
