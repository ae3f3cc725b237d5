package wire

import (
	"fmt"
	"math"
)

// Protobuf wire types, https://protobuf.dev/programming-guides/encoding/#structure.
const (
	typeVarint  = 0
	typeFixed64 = 1
	typeBytes   = 2
	typeFixed32 = 5
)

// A position below zero is one of these faults instead.
const (
	faultTruncated = -1 - iota
	faultVarint
	faultField
	faultGroup
	faultWireType
	faultBuckets
	faultRefs
)

var faultText = [...]string{
	-faultTruncated: "a field reaches past the end of its message",
	-faultVarint:    "a varint has more than 64 bits",
	-faultField:     "a field number is outside of 1 to 2^29-1",
	-faultGroup:     "a field is a group or has an unknown wire type",
	-faultWireType:  "a known field has the wrong wire type",
	-faultBuckets:   fmt.Sprintf("a histogram has more than %d spans, buckets or bounds", MaxBuckets),
	-faultRefs:      fmt.Sprintf("an exemplar has more than %d label references", MaxLabels*2),
}

// Error says where a request stops being well-formed protobuf.
type Error struct {
	// Offset counts bytes from the start of the decoded request. It is the start of the field that could not be read.
	Offset int
	// Series is the position of the time series in the request, from 0; -1 outside of any.
	Series int
	// Reason says what is wrong.
	Reason string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Series < 0 {
		return fmt.Sprintf("invalid remote-write message at offset %d: %s", e.Offset, e.Reason)
	}
	return fmt.Sprintf("invalid remote-write message at offset %d, in time series %d: %s", e.Offset, e.Series, e.Reason)
}

// uvarint reads the varint at b[i:] and returns it with the position behind it, or a fault.
func uvarint(b []byte, i int) (uint64, int) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	return uvarintLong(b, i)
}

//go:noinline
func uvarintLong(b []byte, i int) (uint64, int) {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		if uint(i) >= uint(len(b)) {
			return 0, faultTruncated
		}
		c := b[i]
		i++
		if c < 0x80 {
			if shift == 63 && c > 1 {
				return 0, faultVarint
			}
			return v | uint64(c)<<shift, i
		}
		v |= uint64(c&0x7f) << shift
	}
	return 0, faultVarint
}

// tag reads a field's number and wire type at b[i:]. The result is the tag as in protobuf, number<<3 | type.
func tag(b []byte, i int) (uint64, int) {
	t, i := uvarint(b, i)
	if i >= 0 && (t < 8 || t > math.MaxUint32) {
		return 0, faultField
	}
	return t, i
}

// span reads a length at b[i:]; what has this length is b[start:end]. A fault is in end.
func span(b []byte, i int) (start, end int) {
	n, i := uvarint(b, i)
	if i < 0 {
		return 0, i
	}
	if n > uint64(len(b)-i) {
		return 0, faultTruncated
	}
	return i, i + int(n)
}

// short reads the field of bytes at b[i:] if its tag is t and both the tag and its length take one byte, as nearly all do. ok
// is false if it is anything else.
func short(b []byte, i int, t byte) (start, end int, ok bool) {
	if i+1 < len(b) && b[i] == t && b[i+1] < 0x80 {
		start, end = i+2, i+2+int(b[i+1])
		return start, end, end <= len(b)
	}
	return 0, 0, false
}

// fixed64 returns the eight bytes at b[i:] and the position behind them, or a fault.
func fixed64(b []byte, i int) (uint64, int) {
	if len(b)-i < 8 {
		return 0, faultTruncated
	}
	c := b[i : i+8 : i+8]
	return uint64(c[0]) | uint64(c[1])<<8 | uint64(c[2])<<16 | uint64(c[3])<<24 |
		uint64(c[4])<<32 | uint64(c[5])<<40 | uint64(c[6])<<48 | uint64(c[7])<<56, i + 8
}

// skip returns the position behind the field whose tag was read just before b[i:], or a fault.
func skip(b []byte, i int, tag uint64) int {
	switch tag & 7 {
	case typeVarint:
		_, i = uvarint(b, i)
	case typeBytes:
		_, i = span(b, i)
	case typeFixed64:
		i += 8
	case typeFixed32:
		i += 4
	default:
		return faultGroup
	}
	if i > len(b) {
		return faultTruncated
	}
	return i
}

// skipUnknown is skip for a field that no case of a decoder took, which is an error if its number is a known one: known holds a
// bit for each number.
func skipUnknown(b []byte, i int, tag uint64, known uint32) int {
	if n := tag >> 3; n < 32 && known&(1<<n) != 0 {
		return faultWireType
	}
	return skip(b, i, tag)
}

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

func unzigzag32(v uint64) int32 { u := uint32(v); return int32(u>>1) ^ -int32(u&1) }
