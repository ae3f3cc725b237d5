package wire

import "math"

// maxKept is how many bytes of scratch a decoder keeps for the next request.
const maxKept = 1 << 20

// V1 decodes remote write 1.0, the message prometheus.WriteRequest
// (https://prometheus.io/docs/specs/prw/remote_write_spec/#protocol). The zero value is ready for Reset. It can be
// used again and again, and not concurrently.
type V1 struct {
	series
	at      int  // the next top-level field
	any     bool // a time series or metadata was seen
	foreign bool // a field that 1.0 does not have but 2.0 does was seen

	labelsStart, labelsEnd int    // the label fields, if contiguous
	scattered              bool   // or not
	normal                 []byte // scratch: scattered label fields, brought together
	guess                  Key    // of the bytes in [guessStart, guessEnd), which NextGuessed has hashed
	guessStart, guessEnd   int

	metaStart int // the first metadata field
	metaCount int
	meta      Metadata
}

// Reset begins a request. The decoder keeps a reference to it. The error is always nil: it is there because V2 has one.
func (d *V1) Reset(request []byte) error {
	d.series.reset(request)
	d.tags = [kinds]byte{
		kindSample: 2<<3 | typeBytes, kindExemplar: 3<<3 | typeBytes, kindHistogram: 4<<3 | typeBytes,
	}
	d.at, d.any, d.foreign, d.metaStart, d.metaCount = 0, false, false, 0, 0
	d.guessStart, d.guessEnd = 0, 0
	if cap(d.normal) > maxKept {
		d.normal = nil
	}
	return nil
}

// Foreign reports, after Next returned false, that the request holds nothing of 1.0 but fields that only 2.0 has: the sender
// named the wrong protocol.
func (d *V1) Foreign() bool { return d.foreign && !d.any }

// Next moves to the next time series. It returns false at the end of the request and at an error.
func (d *V1) Next() bool {
	if d.err != nil {
		return false
	}
	for d.at < len(d.buf) {
		at := d.at
		t, i := tag(d.buf, at)
		if i < 0 {
			d.failOutside(at, i)
			return false
		}
		if t == 1<<3|typeBytes {
			start, end := span(d.buf, i)
			if end < 0 {
				d.failOutside(at, end)
				return false
			}
			d.index++
			d.any = true
			d.at = end
			return d.scan(start, end)
		}
		if t == 3<<3|typeBytes {
			if d.metaCount == 0 {
				d.metaStart = at
			}
			d.metaCount++
			d.any = true
		}
		d.foreign = d.foreign || t == 4<<3|typeBytes || t == 5<<3|typeBytes
		if t == 3<<3|typeBytes {
			i = skip(d.buf, i, t)
		} else {
			i = skipUnknown(d.buf, i, t, 1<<1|1<<3)
		}
		if i < 0 {
			d.failOutside(at, i)
			return false
		}
		d.at = i
	}
	return false
}

// scan walks once over the fields of a time series, to find its labels and count the rest.
func (d *V1) scan(i, end int) bool {
	d.clear(i, end)
	d.labelsStart, d.labelsEnd, d.scattered = i, i, false
	b := d.buf[:end]

	// The labels come first, then the samples, in what every sender writes.
	for {
		_, next, ok := short(b, i, 1<<3|typeBytes)
		if !ok {
			break
		}
		i = next
		d.labelCount++
	}
	d.labelsEnd = i
	d.pos = [kinds]int{i, i, i}
	for {
		_, next, ok := short(b, i, 2<<3|typeBytes)
		if !ok {
			break
		}
		i = next
		d.count[kindSample]++
	}

	for i < end {
		at := i
		t, j := tag(b, i)
		if j < 0 {
			d.fail(at, j)
			return false
		}
		switch t {
		case 1<<3 | typeBytes:
			i = skip(b, j, t)
			switch {
			case d.labelCount == 0:
				d.labelsStart, d.labelsEnd = at, i
			case at == d.labelsEnd:
				d.labelsEnd = i
			default:
				d.scattered = true
			}
			d.labelCount++
		case 2<<3 | typeBytes:
			i = skip(b, j, t)
			d.count[kindSample]++
		case 3<<3 | typeBytes:
			i = skip(b, j, t)
			d.count[kindExemplar]++
		case 4<<3 | typeBytes:
			i = skip(b, j, t)
			d.count[kindHistogram]++
		default:
			i = skipUnknown(b, j, t, 1<<1|1<<2|1<<3|1<<4)
		}
		if i < 0 {
			d.fail(at, i)
			return false
		}
	}
	d.left = d.count
	return true
}

// SeriesErr returns what is wrong with the current series although the message is well-formed. It is always nil in 1.0.
func (d *V1) SeriesErr() error { return nil }

// Key returns the key of the current series.
func (d *V1) Key() Key {
	if !d.scattered {
		if d.labelsStart == d.guessStart && d.labelsEnd == d.guessEnd && d.guessEnd > 0 {
			return d.guess
		}
		return keyOf(&seedsV1, d.buf[d.labelsStart:d.labelsEnd])
	}
	d.normal = d.normal[:0]
	msg := d.buf[:d.end]
	for i := d.labelsStart; i < d.end; {
		at := i
		t, j := tag(msg, i)
		if i = skip(msg, j, t); t == 1<<3|typeBytes {
			d.normal = append(d.normal, msg[at:i]...)
		}
	}
	return keyOf(&seedsV1, d.normal)
}

// Labels appends the labels of the current series to dst, in the order of the message, at most limit of them.
func (d *V1) Labels(dst []Label, limit int) ([]Label, error) {
	return d.labels(dst, d.labelsStart, d.end, limit)
}

// ExemplarLabels appends the labels of the current exemplar to dst, in the order of the message, at most limit of them.
func (d *V1) ExemplarLabels(dst []Label, limit int) ([]Label, error) {
	return d.labels(dst, d.exStart, d.exEnd, limit)
}

// labels reads the labels of a message that has them in field 1.
func (d *V1) labels(dst []Label, i, end, limit int) ([]Label, error) {
	msg := d.buf[:end]
	for n := 0; i < end && n < limit; {
		at := i
		t, j := tag(msg, i)
		if j >= 0 {
			if t == 1<<3|typeBytes {
				var start int
				if start, i = span(msg, j); i >= 0 {
					var l Label
					if l, at, j = label(msg[:i], start); j < 0 {
						i = j
					}
					dst = append(dst, l)
					n++
				}
			} else {
				i = skip(msg, j, t)
			}
		} else {
			i = j
		}
		if i < 0 {
			d.fail(at, i)
			return dst, d.err
		}
	}
	return dst, nil
}

// label reads the message Label in b[i:]. A fault is in next, the field it is in in at.
func label(b []byte, i int) (l Label, at, next int) {
	for i < len(b) {
		at = i
		t, j := tag(b, i)
		if j < 0 {
			return l, at, j
		}
		var start int
		switch t {
		case 1<<3 | typeBytes:
			if start, i = span(b, j); i >= 0 {
				l.Name = b[start:i:i]
			}
		case 2<<3 | typeBytes:
			if start, i = span(b, j); i >= 0 {
				l.Value = b[start:i:i]
			}
		default:
			i = skipUnknown(b, j, t, 1<<1|1<<2)
		}
		if i < 0 {
			return l, at, i
		}
	}
	return l, at, i
}

// Metadata says what a metric is.
type Metadata struct {
	Type MetricType
	// Metric is the name of the metric family in 1.0 and the name of the series, with any suffix, in 2.0.
	Metric []byte
	Help   []byte
	Unit   []byte
}

// MetricType numbers the types of metrics as both protocols do, unknown (0) to stateset (7). Senders may send any number.
type MetricType int32

// NextMetadata moves to the next metadata of the request. It is to be called when Next has returned false.
func (d *V1) NextMetadata() bool {
	if d.err != nil || d.metaCount == 0 {
		return false
	}
	d.metaCount--
	d.index = -1
	for {
		at := d.metaStart
		t, i := tag(d.buf, at)
		if i >= 0 && t == 3<<3|typeBytes {
			start, end := span(d.buf, i)
			d.metaStart = end
			return d.metadata(start, end)
		}
		if i >= 0 {
			i = skip(d.buf, i, t)
		}
		if i < 0 {
			d.fail(at, i)
			return false
		}
		d.metaStart = i
	}
}

func (d *V1) metadata(i, end int) bool {
	d.meta = Metadata{}
	b := d.buf[:end]
	for i < end {
		at := i
		t, j := tag(b, i)
		if j < 0 {
			d.fail(at, j)
			return false
		}
		var start int
		switch t {
		case 1<<3 | typeVarint:
			var v uint64
			v, i = uvarint(b, j)
			d.meta.Type = MetricType(v & math.MaxUint32)
		case 2<<3 | typeBytes:
			if start, i = span(b, j); i >= 0 {
				d.meta.Metric = b[start:i:i]
			}
		case 4<<3 | typeBytes:
			if start, i = span(b, j); i >= 0 {
				d.meta.Help = b[start:i:i]
			}
		case 5<<3 | typeBytes:
			if start, i = span(b, j); i >= 0 {
				d.meta.Unit = b[start:i:i]
			}
		default:
			i = skipUnknown(b, j, t, 1<<1|1<<2|1<<4|1<<5)
		}
		if i < 0 {
			d.fail(at, i)
			return false
		}
	}
	return true
}

// Metadata returns the metadata that NextMetadata moved to. The second result is true.
func (d *V1) Metadata() (Metadata, bool) { return d.meta, true }
