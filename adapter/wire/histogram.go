package wire

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
)

// MaxBuckets is the largest number of spans, of buckets on one side, and of custom bounds that a histogram may have.
const MaxBuckets = 1 << 16

// Histogram is a native histogram sample; one of Int and Float is set.
type Histogram struct {
	T     int64 // ms since the epoch
	ST    int64 // start timestamp, ms since the epoch; 0 is none. Always 0 in 1.0.
	Int   *histogram.Histogram
	Float *histogram.FloatHistogram
}

// histogramReader reads the message Histogram, whose fields 1 to 16 are the same in both protocols; 2.0 has a start
// timestamp in 17. Its slices are used again for the next histogram.
type histogramReader struct {
	t, st                int64
	float, zeroFloat     bool
	count, zero          uint64 // bits of a float64 if float, zeroFloat
	sum, threshold       float64
	schema               int32
	hint                 uint64
	posSpans, negSpans   []histogram.Span
	posDeltas, negDeltas []int64
	posCounts, negCounts []float64
	bounds               []float64

	ints   histogram.Histogram
	floats histogram.FloatHistogram
}

const (
	histogramFieldsV1 = 1<<17 - 2
	histogramFieldsV2 = 1<<18 - 2
)

// read reads the message in b[i:]. A fault is returned with the position of the field it is in.
func (h *histogramReader) read(b []byte, i int, st bool) (at, fault int) {
	*h = histogramReader{
		posSpans: h.posSpans[:0], negSpans: h.negSpans[:0],
		posDeltas: h.posDeltas[:0], negDeltas: h.negDeltas[:0],
		posCounts: h.posCounts[:0], negCounts: h.negCounts[:0],
		bounds: h.bounds[:0],
	}
	known := uint32(histogramFieldsV1)
	if st {
		known = histogramFieldsV2
	}
	for i < len(b) {
		at = i
		t, j := tag(b, i)
		if j < 0 {
			return at, j
		}
		var v uint64
		switch t {
		case 1<<3 | typeVarint:
			h.count, i = uvarint(b, j)
			h.float = false
		case 2<<3 | typeFixed64:
			h.count, i = fixed64(b, j)
			h.float = true
		case 3<<3 | typeFixed64:
			v, i = fixed64(b, j)
			h.sum = math.Float64frombits(v)
		case 4<<3 | typeVarint:
			v, i = uvarint(b, j)
			h.schema = unzigzag32(v)
		case 5<<3 | typeFixed64:
			v, i = fixed64(b, j)
			h.threshold = math.Float64frombits(v)
		case 6<<3 | typeVarint:
			h.zero, i = uvarint(b, j)
			h.zeroFloat = false
		case 7<<3 | typeFixed64:
			h.zero, i = fixed64(b, j)
			h.zeroFloat = true
		case 8<<3 | typeBytes:
			h.negSpans, i = bucketSpan(h.negSpans, b, j)
		case 11<<3 | typeBytes:
			h.posSpans, i = bucketSpan(h.posSpans, b, j)
		case 9<<3 | typeBytes, 9<<3 | typeVarint:
			h.negDeltas, i = deltas(h.negDeltas, b, j, t)
		case 12<<3 | typeBytes, 12<<3 | typeVarint:
			h.posDeltas, i = deltas(h.posDeltas, b, j, t)
		case 10<<3 | typeBytes, 10<<3 | typeFixed64:
			h.negCounts, i = doubles(h.negCounts, b, j, t)
		case 13<<3 | typeBytes, 13<<3 | typeFixed64:
			h.posCounts, i = doubles(h.posCounts, b, j, t)
		case 16<<3 | typeBytes, 16<<3 | typeFixed64:
			h.bounds, i = doubles(h.bounds, b, j, t)
		case 14<<3 | typeVarint:
			h.hint, i = uvarint(b, j)
		case 15<<3 | typeVarint:
			v, i = uvarint(b, j)
			h.t = int64(v)
		case 17<<3 | typeVarint:
			if v, i = uvarint(b, j); st {
				h.st = int64(v)
			}
		default:
			i = skipUnknown(b, j, t, known)
		}
		if i < 0 {
			return at, i
		}
	}
	return 0, 0
}

// histogram puts together what was read. As in Prometheus, the count decides whether it is a float histogram, and
// parts of the other kind are left out.
func (h *histogramReader) histogram() Histogram {
	bounds := h.bounds
	if len(bounds) == 0 {
		bounds = nil // an exponential histogram with bounds that are empty, but not nil, is not valid
	}
	zero := h.zero
	if h.zeroFloat != h.float {
		zero = 0 // 0 is 0.0 too
	}
	hint := histogram.UnknownCounterReset
	if h.hint <= uint64(histogram.GaugeType) {
		hint = histogram.CounterResetHint(h.hint)
	}
	if h.float {
		h.floats = histogram.FloatHistogram{
			CounterResetHint: hint, Schema: h.schema, ZeroThreshold: h.threshold, ZeroCount: math.Float64frombits(zero),
			Count: math.Float64frombits(h.count), Sum: h.sum,
			PositiveSpans: h.posSpans, NegativeSpans: h.negSpans,
			PositiveBuckets: h.posCounts, NegativeBuckets: h.negCounts,
			CustomValues: bounds,
		}
		return Histogram{T: h.t, ST: h.st, Float: &h.floats}
	}
	h.ints = histogram.Histogram{
		CounterResetHint: hint, Schema: h.schema, ZeroThreshold: h.threshold, ZeroCount: zero,
		Count: h.count, Sum: h.sum,
		PositiveSpans: h.posSpans, NegativeSpans: h.negSpans,
		PositiveBuckets: h.posDeltas, NegativeBuckets: h.negDeltas,
		CustomValues: bounds,
	}
	return Histogram{T: h.t, ST: h.st, Int: &h.ints}
}

// bucketSpan appends the message BucketSpan whose length is at b[i:]. It returns the position behind it, or a fault.
func bucketSpan(dst []histogram.Span, b []byte, i int) ([]histogram.Span, int) {
	if len(dst) >= MaxBuckets {
		return dst, faultBuckets
	}
	i, end := span(b, i)
	if end < 0 {
		return dst, end
	}
	b = b[:end]
	var s histogram.Span
	for i < end {
		t, j := tag(b, i)
		if j < 0 {
			return dst, j
		}
		var v uint64
		switch t {
		case 1<<3 | typeVarint:
			v, i = uvarint(b, j)
			s.Offset = unzigzag32(v)
		case 2<<3 | typeVarint:
			v, i = uvarint(b, j)
			s.Length = uint32(v)
		default:
			i = skipUnknown(b, j, t, 1<<1|1<<2)
		}
		if i < 0 {
			return dst, i
		}
	}
	return append(dst, s), end
}

// deltas appends one signed varint, or a packed field of them, from b[i:]; the tag tells which.
func deltas(dst []int64, b []byte, i int, t uint64) ([]int64, int) {
	end := i + 1
	if t&7 == typeBytes {
		if i, end = span(b, i); end < 0 {
			return dst, end
		}
		b = b[:end]
	}
	for i < end {
		if len(dst) >= MaxBuckets {
			return dst, faultBuckets
		}
		v, next := uvarint(b, i)
		if next < 0 {
			return dst, next
		}
		i = next
		dst = append(dst, unzigzag(v))
	}
	return dst, i
}

// doubles is deltas for float64.
func doubles(dst []float64, b []byte, i int, t uint64) ([]float64, int) {
	end := i + 1
	if t&7 == typeBytes {
		if i, end = span(b, i); end < 0 {
			return dst, end
		}
		b = b[:end]
	}
	for i < end {
		if len(dst) >= MaxBuckets {
			return dst, faultBuckets
		}
		v, next := fixed64(b, i)
		if next < 0 {
			return dst, next
		}
		i = next
		dst = append(dst, math.Float64frombits(v))
	}
	return dst, i
}
