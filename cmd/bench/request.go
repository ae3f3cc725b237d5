package bench

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
)

// Protocol is a version of remote write.
type Protocol string

// The versions of remote write.
const (
	V1 Protocol = "1.0" // https://prometheus.io/docs/specs/prw/remote_write_spec/
	V2 Protocol = "2.0" // https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/
)

// A sample of a request in a fixed number of bytes: the value, a tag, and the timestamp as a varint. The varint's last byte
// stays the same for 2^35 ms, about a year, and is compressed away with the labels.
const (
	stampTag    = 0x10
	holeBytes   = 8 + 1 + 5
	sampleBytes = 1 + holeBytes + 1
)

// request is a compressed request with one sample of each of some series. The labels are compressed once; values and
// timestamps stand in it as they are, in places that are known, and are put there before it is sent.
type request struct {
	Body []byte
	at   []int32 // where the sample of each series begins
}

// Set puts a sample of the series at index i of the request.
func (r *request) Set(i int, t int64, v float64) {
	b := r.Body[r.at[i]:]
	_ = b[holeBytes-1]
	binary.LittleEndian.PutUint64(b, math.Float64bits(v))
	u := uint64(t)
	b[9], b[10], b[11] = byte(u)|0x80, byte(u>>7)|0x80, byte(u>>14)|0x80
	b[12], b[13] = byte(u>>21)|0x80, byte(u>>28)|0x80
}

// era is the part of a timestamp in ms that is the same for all samples of a request.
func era(t int64) byte { return byte(t >> 35) }

// newRequest prepares a request for the series, with samples of the era.
func newRequest(protocol Protocol, series []labels.Labels, era byte) (*request, error) {
	// Holes are filled with noise, so that a compressor finds next to nothing in them.
	noise := rand.New(rand.NewPCG(uint64(len(series)), 1))
	raw, holes := encode(protocol, series, era)
	for _, h := range holes {
		for i := range holeBytes {
			raw[h+i] = byte(noise.Uint32())
		}
		raw[h+8] = stampTag
	}
	body, places, err := spell(snappy.Encode(nil, raw), raw, holes)
	if err != nil {
		return nil, err
	}
	r := &request{Body: body, at: make([]int32, len(holes))}
	for i, h := range holes {
		r.at[i] = places[h]
		for j := range holeBytes {
			if places[h+j] != r.at[i]+int32(j) {
				return nil, fmt.Errorf("the sample of series %d is not in one piece", i)
			}
		}
	}
	return r, nil
}

// spell rewrites a compressed body so that no byte of a hole is a copy, nor copied. It returns, for each byte of the
// decompressed form, where it stands in the compressed one, -1 if it is a copy.
// The format is https://github.com/google/snappy/blob/main/format_description.txt.
func spell(body, raw []byte, holes []int) (out []byte, places []int32, err error) {
	inHole := make([]bool, len(raw))
	for _, h := range holes {
		for i := range holeBytes {
			inHole[h+i] = true
		}
	}
	out = binary.AppendUvarint(make([]byte, 0, len(body)+len(body)/8), uint64(len(raw)))
	places = make([]int32, 0, len(raw))
	from := 0 // of the bytes that are to be written as they are
	literal := func(to int) {
		if n := to - from; n > 0 {
			out = appendLiteralTag(out, n)
			for i := range n {
				places = append(places, int32(len(out)+i))
			}
			out = append(out, raw[from:to]...)
		}
	}
	at, pos := 0, 0 // in raw, in body
	_, pos = binary.Uvarint(body)
	for pos < len(body) {
		tag := int(body[pos])
		pos++
		length, offset := tag>>2+1, 0
		switch tag & 3 {
		case 0:
			if extra := length - 60; extra > 0 {
				length = 1
				for i := range extra {
					length += int(body[pos+i]) << (8 * i)
				}
				pos += extra
			}
			pos += length
			at += length
			continue
		case 1:
			length, offset = tag>>2&7+4, tag>>5<<8|int(body[pos])
			pos++
		case 2:
			offset = int(body[pos]) | int(body[pos+1])<<8
			pos += 2
		default:
			return nil, nil, fmt.Errorf("snappy made a copy from further back than 64 KiB")
		}
		for end := at + length; at < end; {
			n := 0
			for at+n < end && !inHole[at+n] && !inHole[at+n-offset] {
				n++
			}
			if n == 0 {
				at++
				continue
			}
			literal(at)
			out = append(out, byte(n-1)<<2|2, byte(offset), byte(offset>>8))
			for range n {
				places = append(places, -1)
			}
			at += n
			from = at
		}
	}
	literal(at)
	if at != len(raw) || len(places) != len(raw) {
		return nil, nil, fmt.Errorf("%d bytes of snappy decode to %d, want %d", len(body), at, len(raw))
	}
	return out, places, nil
}

func appendLiteralTag(b []byte, n int) []byte {
	switch n--; {
	case n < 60:
		return append(b, byte(n)<<2)
	case n < 1<<8:
		return append(b, 60<<2, byte(n))
	case n < 1<<16:
		return append(b, 61<<2, byte(n), byte(n>>8))
	default:
		return append(b, 62<<2, byte(n), byte(n>>8), byte(n>>16))
	}
}

// encode returns the request as protobuf, and where the samples are to be put.
func encode(protocol Protocol, series []labels.Labels, era byte) (raw []byte, holes []int) {
	if protocol == V2 {
		return encodeV2(series, era)
	}
	var ls []byte
	for _, s := range series {
		ls = ls[:0]
		s.Range(func(l labels.Label) {
			pair := 2 + sizeOf(len(l.Name)) + len(l.Name) + sizeOf(len(l.Value)) + len(l.Value)
			ls = append(ls, 0x0a) // TimeSeries.labels
			ls = binary.AppendUvarint(ls, uint64(pair))
			ls = appendString(ls, 0x0a, l.Name)
			ls = appendString(ls, 0x12, l.Value)
		})
		raw = append(raw, 0x0a) // WriteRequest.timeseries
		raw = binary.AppendUvarint(raw, uint64(len(ls)+2+sampleBytes))
		raw = append(raw, ls...)
		raw = append(raw, 0x12, sampleBytes, 0x09) // TimeSeries.samples, Sample.value
		holes = append(holes, len(raw))
		raw = append(raw, make([]byte, holeBytes)...)
		raw = append(raw, era)
	}
	return raw, holes
}

func encodeV2(series []labels.Labels, era byte) (raw []byte, holes []int) {
	symbols := map[string]uint64{"": 0}
	raw = appendString(nil, 0x22, "") // Request.symbols
	symbol := func(s string) uint64 {
		n, ok := symbols[s]
		if !ok {
			n = uint64(len(symbols))
			symbols[s] = n
			raw = appendString(raw, 0x22, s)
		}
		return n
	}
	refs := make([][]byte, len(series))
	for i, s := range series {
		s.Range(func(l labels.Label) {
			refs[i] = binary.AppendUvarint(refs[i], symbol(l.Name))
			refs[i] = binary.AppendUvarint(refs[i], symbol(l.Value))
		})
	}
	for i := range series {
		size := 1 + sizeOf(len(refs[i])) + len(refs[i]) + 2 + sampleBytes
		raw = append(raw, 0x2a) // Request.timeseries
		raw = binary.AppendUvarint(raw, uint64(size))
		raw = append(raw, 0x0a) // TimeSeries.labels_refs
		raw = binary.AppendUvarint(raw, uint64(len(refs[i])))
		raw = append(raw, refs[i]...)
		raw = append(raw, 0x12, sampleBytes, 0x09) // TimeSeries.samples, Sample.value
		holes = append(holes, len(raw))
		raw = append(raw, make([]byte, holeBytes)...)
		raw = append(raw, era)
	}
	return raw, holes
}

func appendString(b []byte, tag byte, s string) []byte {
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// sizeOf is the length of a varint.
func sizeOf(n int) int {
	size := 1
	for n >= 0x80 {
		n >>= 7
		size++
	}
	return size
}
