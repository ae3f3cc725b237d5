package codec

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// maxExact bounds the integers that values are scaled to: below it every
// integer is a float64, and the quotient of it and a power of ten is the
// float64 nearest to the decimal.
const maxExact = 1 << 53

// decimal returns the integer k with k / 10^scale == v, bit for bit.
func decimal(v float64, scale int) (int64, bool) {
	p := pow10[scale]
	scaled := v * p
	// Written so that NaN fails.
	if !(scaled < maxExact && scaled > -maxExact) {
		return 0, false
	}
	k := int64(math.RoundToEven(scaled))
	return k, math.Float64bits(float64(k)/p) == math.Float64bits(v)
}

// integer is decimal for scale 0.
func integer(v float64) (int64, bool) {
	k := int64(v)
	if uint64(k+maxExact-1) > 2*maxExact-2 {
		return 0, false
	}
	return k, math.Float64bits(float64(k)) == math.Float64bits(v)
}

// safeScale[x] is the greatest scale at which float64 with the exponent x are below
// 2^50. Rounding then finds the decimal if there is one: v and its product with a power
// of ten are off by half a unit in the last place each.
var safeScale = func() (t [1 << 11]int8) {
	for x := range t {
		v := math.Ldexp(1, x-1022) // all with this exponent are below
		t[x] = -1
		for s, p := range pow10 {
			if v*p <= 1<<50 {
				t[x] = int8(s)
			}
		}
	}
	return t
}()

// smallestScale returns the smallest scale of at least from that makes v an
// integer, or -1.
func smallestScale(v float64, from int) int {
	b := math.Float64bits(v)
	if isSpecialBits(b) || b == 1<<63 {
		return -1
	}
	// A decimal of one scale is one of every larger scale, too: what is none of the
	// greatest is none.
	if safe := int(safeScale[b>>52&0x7ff]); safe >= from {
		if _, ok := decimal(v, safe); !ok {
			from = safe + 1
		}
	}
	for s := from; s <= maxScale; s++ {
		if math.Abs(v)*pow10[s] >= maxExact {
			return -1
		}
		if _, ok := decimal(v, s); ok {
			return s
		}
	}
	return -1
}

// appendValues appends the column of values.
func (e *Encoder) appendValues(dst []byte, v []float64) []byte {
	e.special = e.special[:0]
	if constant(v) {
		if s := smallestScale(v[0], 0); s >= 0 {
			k, _ := decimal(v[0], s)
			return binary.AppendUvarint(append(dst, byte(s)<<headerScaleShift, 0), zigzag(k))
		}
		return binary.BigEndian.AppendUint64(append(dst, scaleBits<<headerScaleShift, 0), math.Float64bits(v[0]))
	}
	if s := e.toDecimals(v); s >= 0 {
		return e.appendColumn(dst, len(v), columnValue, s, 0)
	}
	scale, gain := sumScale(v)
	if gain >= sureGain {
		e.toCorrectedDecimals(v, scale)
		return e.appendColumn(dst, len(v), columnValue, scale, 0)
	}
	e.toBits(v)
	start := len(dst)
	dst = e.appendColumn(dst, len(v), columnValue, scaleBits, 0)
	if scale >= 0 {
		mid := len(dst)
		e.toCorrectedDecimals(v, scale)
		dst = e.appendColumn(dst, len(v), columnValue, scale, 0)
		if len(dst)-mid < mid-start {
			dst = dst[:start+copy(dst[start:], dst[mid:])]
		} else {
			dst = dst[:mid]
		}
	}
	return dst
}

// sureGain is the gain, in bits of a value, from which on corrected decimals are not compared with
// the bits of the values: those would take more.
const sureGain = 8

// sumScale looks for the scale of decimals that were summed up as float64, as
// the durations in the sum of a histogram are: the values are then close to
// decimals, and the distance, in units of the last place, hardly changes from
// one value to the next. It looks at a few values, and returns the scale -1 when knowing
// the decimals would not save some bits of each: gain is how many it would.
func sumScale(v []float64) (scale, gain int) {
	const minGain = 3 // bits
	scale = -1
	pairs := min(8, len(v)/8)
	for _, s := range [...]int{9, 6, 3, 2, 1} {
		bitsGained, looked := 0, 0
		for j := range pairs {
			i := j * (len(v) - 1) / pairs
			k0, e0, ok0 := nearDecimal(v[i], s)
			k1, e1, ok1 := nearDecimal(v[i+1], s)
			if !ok0 || !ok1 || k0 == k1 {
				continue
			}
			p := pow10[s]
			grid := math.Float64bits(float64(k1+1)/p) - math.Float64bits(float64(k1)/p)
			bitsGained += bits.Len64(grid) - bits.Len64(uint64(max(e1-e0, e0-e1)))
			looked++
		}
		if looked > 0 && bitsGained >= minGain*looked && bitsGained > gain*looked {
			gain, scale = bitsGained/looked, s
		}
	}
	return scale, gain
}

// nearDecimal returns the integer k for which k / 10^scale is near v, and how
// much greater the bits of v are than those of that quotient.
func nearDecimal(v float64, scale int) (k, ulps int64, ok bool) {
	p := pow10[scale]
	scaled := v * p
	if !(scaled < maxExact && scaled > -maxExact) {
		return 0, 0, false
	}
	k = int64(math.RoundToEven(scaled))
	return k, int64(math.Float64bits(v) - math.Float64bits(float64(k)/p)), true
}

// toCorrectedDecimals fills e.k with decimals near v and e.ulps with what is
// to be added to their bits.
func (e *Encoder) toCorrectedDecimals(v []float64, scale int) {
	e.special = e.special[:0]
	e.ulps = e.corrections[:len(v)]
	for i, x := range v {
		k, ulps, ok := nearDecimal(x, scale)
		if !ok {
			e.special = append(e.special, special{i, math.Float64bits(x)})
			k, ulps = 0, 0
			if i > 0 {
				ulps = e.ulps[i-1]
			}
		}
		e.k[i], e.ulps[i] = k, ulps
	}
	e.coverSpecials(len(v))
}

// toDecimals fills e.k with v as integers and e.special with the values that
// are none, and returns the scale. It returns -1 when too many values are no
// decimals of one scale.
func (e *Encoder) toDecimals(v []float64) int {
	allowed := len(v)/32 + 1 // values with too many digits
	scale, none := 0, 0
	for _, x := range v {
		if s := smallestScale(x, 0); s >= 0 {
			scale = s
			break
		}
		if b := math.Float64bits(x); !isSpecialBits(b) && b != 1<<63 {
			if none++; none > allowed {
				return -1
			}
		}
	}
	for {
		e.special = e.special[:0]
		misfits, next := 0, maxScale+1
		for i, x := range v {
			var k int64
			var ok bool
			if scale == 0 {
				k, ok = integer(x)
			} else {
				k, ok = decimal(x, scale)
			}
			if !ok {
				b := math.Float64bits(x)
				if !isSpecialBits(b) && b != 1<<63 {
					misfits++
					if s := smallestScale(x, scale+1); s >= 0 {
						next = min(next, s)
					}
					if misfits > allowed {
						break
					}
				}
				e.special = append(e.special, special{i, b})
			}
			e.k[i] = k
		}
		switch {
		case misfits <= allowed && len(e.special) <= len(v)/4+1 && len(e.special) < len(v):
			e.coverSpecials(len(v))
			return scale
		case misfits <= allowed || next > maxScale:
			return -1
		}
		scale = next
	}
}

// toBits fills e.k with the bit patterns of v, and e.special with NaNs and
// infinities when they are few.
func (e *Encoder) toBits(v []float64) {
	e.special = e.special[:0]
	for i, x := range v {
		b := math.Float64bits(x)
		e.k[i] = int64(b)
		if isSpecialBits(b) {
			e.special = append(e.special, special{i, b})
		}
	}
	if len(e.special) > len(v)/4+1 || len(e.special) == len(v) {
		e.special = e.special[:0]
	}
	e.coverSpecials(len(v))
}

// coverSpecials gives the places of special values the integers before them,
// or after them at the very start, so that they have a say neither in the unit
// nor in what is first.
func (e *Encoder) coverSpecials(n int) {
	lead := 0 // specials at the very start
	for lead < len(e.special) && e.special[lead].pos == lead {
		lead++
	}
	if lead == n {
		return
	}
	for i := range lead {
		e.k[i] = e.k[lead]
	}
	for _, s := range e.special[lead:] {
		e.k[s.pos] = e.k[s.pos-1]
	}
}

// bridgeSpecials draws a line across every run of special values, and lets the
// series go on as before where one ends it, so that no residual stands out.
func (e *Encoder) bridgeSpecials(k []int64) {
	for i := 0; i < len(e.special); {
		from := e.special[i].pos
		end := from // of the run
		for i < len(e.special) && e.special[i].pos == end {
			i, end = i+1, end+1
		}
		switch {
		case from == 0:
		case end < len(k):
			step := (k[end] - k[from-1]) / int64(end-from+1)
			for j := from; j < end; j++ {
				k[j] = k[j-1] + step
			}
		case from >= 2:
			step := k[from-1] - k[from-2]
			for j := from; j < end; j++ {
				k[j] = k[j-1] + step
				step = 0
			}
		}
	}
}

// appendSpecials appends the list of special values.
func (e *Encoder) appendSpecials(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(e.special)))
	next := 0
	var last uint64
	for i, s := range e.special {
		code := specialRaw
		switch {
		case s.bits == staleNaN:
			code = specialStale
		case s.bits == normalNaN:
			code = specialNaN
		case i > 0 && s.bits == last:
			code = specialRepeat
		}
		dst = binary.AppendUvarint(dst, uint64(s.pos-next)<<2|uint64(code))
		if code == specialRaw {
			dst = binary.BigEndian.AppendUint64(dst, s.bits)
		}
		next, last = s.pos+1, s.bits
	}
	return dst
}
