package wire

import (
	"math"
)

// MaxLabels is how many labels of one series a decoder looks at. A series with more has a LabelCount that says so, and no key.
const MaxLabels = 4096

// Label is a name and a value, as bytes of the request.
type Label struct {
	Name, Value []byte
}

// Sample is a float sample.
type Sample struct {
	T  int64 // ms since the epoch
	ST int64 // start timestamp, ms since the epoch; 0 is none. Always 0 in 1.0.
	V  float64
}

// Exemplar is an exemplar without its labels.
type Exemplar struct {
	T int64 // ms since the epoch; 0 is none
	V float64
}

// What a time series holds beside its labels.
const (
	kindSample = iota
	kindHistogram
	kindExemplar
	kinds
)

// series is the part of both decoders that walks a time series. Positions count from the start of the request, so
// that an error can name them; a message within the request is buf[:end] read from its start.
type series struct {
	buf   []byte
	index int // of the time series, from 0; -1 before the first and after the last
	err   error

	tags [kinds]byte // of the fields that hold samples, histograms and exemplars
	st   bool        // whether samples and histograms have start timestamps

	end        int // of the time series
	labelCount int
	count      [kinds]int
	left       [kinds]int // how many of count are still to come,
	pos        [kinds]int // and where to look for the next

	sample   Sample
	exemplar Exemplar
	exStart  int // of the exemplar
	exEnd    int
	hist     histogramReader
}

func (s *series) reset(buf []byte) {
	s.buf, s.index, s.err = buf, -1, nil
	s.clear(0, 0)
}

// clear prepares for the time series in buf[start:end].
func (s *series) clear(start, end int) {
	s.end, s.labelCount = end, 0
	s.count = [kinds]int{}
	s.pos = [kinds]int{start, start, start}
}

// fail keeps the first fault found; at is the field it is in.
func (s *series) fail(at, fault int) {
	if s.err == nil {
		s.err = &Error{Offset: at, Series: s.index, Reason: faultText[-fault]}
	}
	s.left = [kinds]int{}
}

// failOutside is fail for a field that is in no time series.
func (s *series) failOutside(at, fault int) {
	s.index = -1
	s.fail(at, fault)
}

// Err returns an *Error if the request is not well-formed, as far as it was read.
func (s *series) Err() error { return s.err }

// Index returns the position of the current time series in the request, from 0.
func (s *series) Index() int { return s.index }

// LabelCount returns the number of labels of the current series.
func (s *series) LabelCount() int { return s.labelCount }

// Samples returns the number of float samples of the current series.
func (s *series) Samples() int { return s.count[kindSample] }

// Histograms returns the number of native histograms of the current series.
func (s *series) Histograms() int { return s.count[kindHistogram] }

// Exemplars returns the number of exemplars of the current series.
func (s *series) Exemplars() int { return s.count[kindExemplar] }

// next finds the next message of a kind. The fields were already walked over once, when they were counted.
func (s *series) next(kind int) (start, end int, ok bool) {
	if s.left[kind] == 0 {
		return 0, 0, false
	}
	s.left[kind]--
	msg := s.buf[:s.end]
	if start, end, ok = short(msg, s.pos[kind], s.tags[kind]); ok {
		s.pos[kind] = end
		return start, end, true
	}
	for i := s.pos[kind]; ; {
		t, j := tag(msg, i)
		if j < 0 {
			s.fail(i, j)
			return 0, 0, false
		}
		if t == uint64(s.tags[kind]) {
			start, end = span(msg, j)
			s.pos[kind] = end
			return start, end, end >= 0
		}
		if i = skip(msg, j, t); i < 0 {
			s.fail(j, i)
			return 0, 0, false
		}
	}
}

// NextSample moves to the next float sample of the series.
func (s *series) NextSample() bool {
	i, end, ok := s.next(kindSample)
	if !ok {
		return false
	}
	b := s.buf[:end]
	// What every sender writes: the value, then a timestamp after 1971 and before 2109, which takes six bytes.
	if end-i == 16 && b[i] == 1<<3|typeFixed64 && b[i+9] == 2<<3|typeVarint {
		bits, at := fixed64(b, i+1)
		if t, next := uvarint(b, at+1); next == end {
			s.sample = Sample{T: int64(t), V: math.Float64frombits(bits)}
			return true
		}
	}
	return s.anySample(i, end)
}

// Sample returns the sample that NextSample moved to.
func (s *series) Sample() Sample { return s.sample }

func (s *series) anySample(i, end int) bool {
	b := s.buf[:end]
	s.sample = Sample{}
	known := uint32(1<<1 | 1<<2)
	if s.st {
		known |= 1 << 3
	}
	for i < end {
		at := i
		t, j := tag(b, i)
		if j < 0 {
			s.fail(at, j)
			return false
		}
		var v uint64
		switch {
		case t == 1<<3|typeFixed64:
			v, i = fixed64(b, j)
			s.sample.V = math.Float64frombits(v)
		case t == 2<<3|typeVarint:
			v, i = uvarint(b, j)
			s.sample.T = int64(v)
		case t == 3<<3|typeVarint && s.st:
			v, i = uvarint(b, j)
			s.sample.ST = int64(v)
		default:
			i = skipUnknown(b, j, t, known)
		}
		if i < 0 {
			s.fail(at, i)
			return false
		}
	}
	return true
}

// NextHistogram moves to the next native histogram of the series.
func (s *series) NextHistogram() bool {
	i, end, ok := s.next(kindHistogram)
	if !ok {
		return false
	}
	if at, fault := s.hist.read(s.buf[:end], i, s.st); fault < 0 {
		s.fail(at, fault)
		return false
	}
	return true
}

// Histogram returns the histogram that NextHistogram moved to. It and all it points to are overwritten by the next one.
func (s *series) Histogram() Histogram { return s.hist.histogram() }

// NextExemplar moves to the next exemplar of the series.
func (s *series) NextExemplar() bool {
	i, end, ok := s.next(kindExemplar)
	if !ok {
		return false
	}
	s.exStart, s.exEnd, s.exemplar = i, end, Exemplar{}
	b := s.buf[:end]
	for i < end {
		at := i
		t, j := tag(b, i)
		if j < 0 {
			s.fail(at, j)
			return false
		}
		var v uint64
		switch t {
		case 2<<3 | typeFixed64:
			v, i = fixed64(b, j)
			s.exemplar.V = math.Float64frombits(v)
		case 3<<3 | typeVarint:
			v, i = uvarint(b, j)
			s.exemplar.T = int64(v)
		case 1<<3 | typeBytes:
			i = skip(b, j, t)
		case 1<<3 | typeVarint: // an unpacked reference in 2.0
			if i = skip(b, j, t); !s.st {
				i = faultWireType
			}
		default:
			i = skipUnknown(b, j, t, 1<<1|1<<2|1<<3)
		}
		if i < 0 {
			s.fail(at, i)
			return false
		}
	}
	return true
}

// Exemplar returns the exemplar that NextExemplar moved to.
func (s *series) Exemplar() Exemplar { return s.exemplar }
