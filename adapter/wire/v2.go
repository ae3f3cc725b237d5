package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// MaxSymbols is how many symbols a request may have.
const MaxSymbols = 1 << 20

const metricName = "__name__"

var errOddRefs = errors.New("the number of label references is odd")

// V2 decodes remote write 2.0, the message io.prometheus.write.v2.Request
// (https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/#protobuf-message). The zero value is ready for Reset. It can be
// used again and again, and not concurrently.
type V2 struct {
	series
	at      int // the next top-level field
	foreign bool

	symbols []symbol
	hashes  []Key  // of the symbols
	name    uint32 // the symbol "__name__", 0 if there is none

	refs   []uint32 // of the labels
	exRefs []uint32 // of the labels of the exemplar
	wrong  error
	half   [2][]byte // scratch: the hashes of the refs, to be hashed

	meta, metaBefore metadataRefs
	hasMeta          bool
}

// symbol is where a symbol lies in the request.
type symbol struct{ start, end uint32 }

type metadataRefs struct {
	name, help, unit uint32
	typ              MetricType
}

// Reset begins a request, of less than 4 GiB, and reads its symbols. The decoder keeps a reference to the request.
func (d *V2) Reset(request []byte) error {
	d.series.reset(request)
	d.tags = [kinds]byte{
		kindSample: 2<<3 | typeBytes, kindHistogram: 3<<3 | typeBytes, kindExemplar: 4<<3 | typeBytes,
	}
	d.st = true
	d.at, d.foreign, d.name = 0, false, 0
	d.symbols, d.hashes = d.symbols[:0], d.hashes[:0]
	d.hasMeta, d.metaBefore = false, metadataRefs{}
	if len(request) > math.MaxUint32 {
		d.err = &Error{Series: -1, Reason: "the message is larger than 4 GiB"}
		return d.err
	}

	any := false
	for i := 0; i < len(request); {
		at := i
		t, j := tag(request, i)
		if j < 0 {
			d.fail(at, j)
			return d.err
		}
		switch t {
		case 4<<3 | typeBytes:
			var start int
			if start, i = span(request, j); i < 0 {
				break
			}
			if len(d.symbols) == MaxSymbols {
				d.err = &Error{Offset: at, Series: -1, Reason: fmt.Sprintf("more than %d symbols", MaxSymbols)}
				return d.err
			}
			s := request[start:i]
			if d.name == 0 && string(s) == metricName {
				d.name = uint32(len(d.symbols))
			}
			d.symbols = append(d.symbols, symbol{uint32(start), uint32(i)})
			d.hashes = append(d.hashes, keyOf(&seedsSymbols, s))
		case 5<<3 | typeBytes:
			i = skip(request, j, t)
			any = true
		default:
			i = skipUnknown(request, j, t, 1<<4|1<<5)
			d.foreign = d.foreign || t == 1<<3|typeBytes || t == 3<<3|typeBytes
		}
		if i < 0 {
			d.fail(at, i)
			return d.err
		}
	}
	d.foreign = d.foreign && !any && len(d.symbols) == 0
	if any && (len(d.symbols) == 0 || d.symbols[0].start != d.symbols[0].end) {
		d.err = &Error{Series: -1, Reason: "the first symbol is not the empty string"}
	}
	return d.err
}

// Foreign reports that the request holds nothing of 2.0 but fields that only 1.0 has: the sender named the wrong protocol.
func (d *V2) Foreign() bool { return d.foreign }

// TableBytes returns the memory that the tables of the request's symbols take, in bytes.
func (d *V2) TableBytes() int { return len(d.symbols) * (8 + 16) }

// Next moves to the next time series. It returns false at the end of the request and at an error.
func (d *V2) Next() bool {
	if d.err != nil {
		return false
	}
	for d.at < len(d.buf) {
		at := d.at
		t, i := tag(d.buf, at)
		if i >= 0 && t == 5<<3|typeBytes {
			start, end := span(d.buf, i)
			d.index++
			d.at = end
			return d.scan(start, end)
		}
		if i >= 0 {
			i = skip(d.buf, i, t)
		}
		if i < 0 {
			d.failOutside(at, i)
			return false
		}
		d.at = i
	}
	return false
}

// scan walks once over the fields of a time series, to read the label references and count the rest.
func (d *V2) scan(i, end int) bool {
	d.clear(i, end)
	d.refs, d.wrong = d.refs[:0], nil
	if d.hasMeta {
		d.metaBefore = d.meta
	}
	d.meta, d.hasMeta = metadataRefs{}, false
	b := d.buf[:end]
	refs := 0
	for i < end {
		at := i
		t, j := tag(b, i)
		if j < 0 {
			d.fail(at, j)
			return false
		}
		switch t {
		case 1<<3 | typeBytes, 1<<3 | typeVarint:
			var n int
			d.refs, n, i = appendRefs(d.refs, b, j, t)
			refs += n
		case 2<<3 | typeBytes:
			i = skip(b, j, t)
			d.count[kindSample]++
		case 3<<3 | typeBytes:
			i = skip(b, j, t)
			d.count[kindHistogram]++
		case 4<<3 | typeBytes:
			i = skip(b, j, t)
			d.count[kindExemplar]++
		case 5<<3 | typeBytes:
			i = d.metadata(b, j)
		default:
			i = skipUnknown(b, j, t, 1<<1|1<<2|1<<3|1<<4|1<<5)
		}
		if i < 0 {
			d.fail(at, i)
			return false
		}
	}
	d.left = d.count
	d.labelCount = (refs + 1) / 2
	d.check(refs)
	return true
}

// check finds what keeps the series from being used although it is well-formed.
func (d *V2) check(refs int) {
	if refs%2 != 0 {
		d.wrong = errOddRefs
	}
	n := uint32(len(d.symbols))
	if len(d.refs) > 0 {
		if r := slices.Max(d.refs); r >= n {
			d.wrong = d.outside("label", r)
		}
	}
	if d.meta.help >= n {
		d.wrong = d.outside("help", d.meta.help)
	}
	if d.meta.unit >= n {
		d.wrong = d.outside("unit", d.meta.unit)
	}
}

func (d *V2) outside(what string, ref uint32) error {
	return fmt.Errorf("the %s reference %d is outside of the %d symbols", what, ref, len(d.symbols))
}

// SeriesErr returns what is wrong with the current series although the message is well-formed: references outside
// of the symbols, or an odd number of them. Such a series has no key and no labels; others of the request may be good.
func (d *V2) SeriesErr() error { return d.wrong }

// appendRefs appends one reference, or a packed field of them, from b[i:]; n is how many there were. Of a series with more
// than MaxLabels labels the rest is only counted.
func appendRefs(dst []uint32, b []byte, i int, t uint64) (_ []uint32, n, next int) {
	end := i + 1
	if t&7 == typeBytes {
		if i, end = span(b, i); end < 0 {
			return dst, 0, end
		}
		b = b[:end]
	}
	for i < end {
		if i+1 < len(b) && len(dst) < 2*MaxLabels { // nearly all have one or two bytes
			if c := uint32(b[i]); c < 0x80 {
				dst = append(dst, c)
				i++
				n++
				continue
			} else if e := uint32(b[i+1]); e < 0x80 {
				dst = append(dst, c&0x7f|e<<7)
				i += 2
				n++
				continue
			}
		}
		v, next := uvarint(b, i)
		if next < 0 {
			return dst, n, next
		}
		i = next
		if len(dst) < 2*MaxLabels {
			dst = append(dst, uint32(v))
		}
		n++
	}
	return dst, n, i
}

// Key returns the key of the current series. It has one if SeriesErr is nil and LabelCount at most MaxLabels.
func (d *V2) Key() Key {
	if d.wrong != nil || d.labelCount > MaxLabels {
		return Key{}
	}
	// Each half of a key is a hash of the same half of the symbols' hashes, so the halves stay independent. The refs
	// themselves mean something else in every request.
	size := 8 * len(d.refs)
	if cap(d.half[0]) < size {
		d.half[0], d.half[1] = make([]byte, 2*size), make([]byte, 2*size)
	}
	lo, hi := d.half[0][:size], d.half[1][:size]
	for i, r := range d.refs {
		h := &d.hashes[r]
		binary.LittleEndian.PutUint64(lo[8*i:], h[0])
		binary.LittleEndian.PutUint64(hi[8*i:], h[1])
	}
	return Key{keyOfHalf(0, lo), keyOfHalf(1, hi)}
}

// Labels appends the labels of the current series to dst, in the order of the message, at most limit of them.
func (d *V2) Labels(dst []Label, limit int) ([]Label, error) {
	if d.wrong != nil {
		return dst, d.wrong
	}
	return d.resolve(dst, d.refs, limit), nil
}

func (d *V2) resolve(dst []Label, refs []uint32, limit int) []Label {
	for n := 0; n < limit && len(refs) >= 2; n++ {
		dst = append(dst, Label{Name: d.symbol(refs[0]), Value: d.symbol(refs[1])})
		refs = refs[2:]
	}
	return dst
}

func (d *V2) symbol(ref uint32) []byte {
	s := d.symbols[ref]
	return d.buf[s.start:s.end:s.end]
}

// ExemplarLabels appends the labels of the current exemplar to dst, in the order of the message, at most limit of them. Its
// error is either about the exemplar alone, or also in Err.
func (d *V2) ExemplarLabels(dst []Label, limit int) ([]Label, error) {
	msg := d.buf[:d.exEnd]
	refs, total := d.exRefs[:0], 0
	for i := d.exStart; i < d.exEnd; {
		at := i
		t, j := tag(msg, i)
		switch {
		case j < 0:
			i = j
		case t == 1<<3|typeBytes || t == 1<<3|typeVarint:
			var n int
			refs, n, i = appendRefs(refs, msg, j, t)
			total += n
		default:
			i = skip(msg, j, t)
		}
		if total > 2*MaxLabels {
			i = faultRefs
		}
		if i < 0 {
			d.fail(at, i)
			return dst, d.err
		}
	}
	d.exRefs = refs
	if total%2 != 0 {
		return dst, errOddRefs
	}
	for _, r := range refs {
		if r >= uint32(len(d.symbols)) {
			return dst, d.outside("label", r)
		}
	}
	return d.resolve(dst, refs, limit), nil
}

// metadata reads the message Metadata whose length is at b[i:]. It returns the position behind it, or a fault. A second one
// in the same series adds to the first, as protobuf has it.
func (d *V2) metadata(b []byte, i int) int {
	i, end := span(b, i)
	if end < 0 {
		return end
	}
	b = b[:end]
	d.hasMeta = true
	for i < end {
		t, j := tag(b, i)
		if j < 0 {
			return j
		}
		var v uint64
		switch t {
		case 1<<3 | typeVarint:
			v, i = uvarint(b, j)
			d.meta.typ = MetricType(v & math.MaxUint32)
		case 3<<3 | typeVarint:
			v, i = uvarint(b, j)
			d.meta.help = uint32(v)
		case 4<<3 | typeVarint:
			v, i = uvarint(b, j)
			d.meta.unit = uint32(v)
		default:
			i = skipUnknown(b, j, t, 1<<1|1<<3|1<<4)
		}
		if i < 0 {
			return i
		}
	}
	return end
}

// Metadata returns the metadata of the current series. The second result is false if there is none, or if it is what the series
// before had, for the same metric.
func (d *V2) Metadata() (Metadata, bool) {
	if !d.hasMeta || d.wrong != nil {
		return Metadata{}, false
	}
	if d.meta.typ == 0 && d.meta.help == 0 && d.meta.unit == 0 {
		return Metadata{}, false // senders write the message even when they know nothing
	}
	for i := 0; i+1 < len(d.refs) && d.meta.name == 0; i += 2 {
		// Symbols should differ from each other, but nothing makes a sender see to it.
		if d.refs[i] == d.name || string(d.symbol(d.refs[i])) == metricName {
			d.meta.name = d.refs[i+1]
		}
	}
	if d.meta.name == 0 || d.meta == d.metaBefore {
		return Metadata{}, false
	}
	return Metadata{
		Type:   d.meta.typ,
		Metric: d.symbol(d.meta.name),
		Help:   d.symbol(d.meta.help),
		Unit:   d.symbol(d.meta.unit),
	}, true
}

// NextMetadata returns false: metadata is within the series in 2.0.
func (d *V2) NextMetadata() bool { return false }
