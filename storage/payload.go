package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"

	"github.com/promkeep/promkeep/storage/samplelog"
	"github.com/promkeep/promkeep/storage/series"
)

// The payload of the log: a row holds blocks, a block is
//
//	length of what follows (uvarint), version 1 (byte), base time in ms (varint), entries.
//
// An entry is a tag and what the tag says, relative to the entry before (the first: to series 0 and the base time):
//
//	tag            byte: bits 0-3 number n of value bytes; bit 4 another metric follows; bit 5 a time follows; bit 6 a kind follows
//	kind           byte, if bit 6: 1 float with start timestamp, 2 integer histogram, 3 float histogram, 4 exemplar
//	metric delta   varint, if bit 4: of the high bits of the series ID
//	series delta   varint: of the low 37 bits of the series ID
//	time delta     varint, if bit 5
//	start          varint, if there is a kind: start timestamp, ms
//	value          floats: the n most significant bytes of the float64, the rest being zero; histograms: length (uvarint) and
//	               a prometheus.Histogram in protobuf; exemplars: length (uvarint), the float64 (8 bytes, big endian), and
//	               each name and value of the labels, in order, behind its length (uvarint)
const (
	payloadVersion = 1

	tagMetric = 1 << 4
	tagTime   = 1 << 5
	tagKind   = 1 << 6

	kindFloatST   = 1
	kindHistogram = 2
	kindFloatHist = 3
	kindExemplar  = 4

	lowBits = 37
	lowMask = 1<<lowBits - 1
)

var errPayload = errors.New("the log holds bytes that cannot be read")

// payloadWriter cuts entries into blocks that fit into a row of the log.
type payloadWriter struct {
	buf    []byte
	ends   []int // of blocks in buf
	start  int   // of the block at hand
	id     uint64
	t      int64
	blocks [][]byte
}

// A block begins with room for its length, which is written when it ends; lengths of two bytes cover most blocks.
const blockHeader = 4

func (w *payloadWriter) reset() {
	w.buf, w.ends, w.start, w.id, w.t = w.buf[:0], w.ends[:0], 0, 0, 0
}

func (w *payloadWriter) begin(t int64) {
	w.start = len(w.buf)
	w.buf = append(w.buf, 0, 0, 0, 0, payloadVersion)
	w.buf = binary.AppendVarint(w.buf, t)
	w.id, w.t = 0, t
}

// end closes the block at hand: its length is a uvarint of four bytes.
func (w *payloadWriter) end() {
	if len(w.buf) == w.start {
		return
	}
	n := uint32(len(w.buf) - w.start - blockHeader)
	b := w.buf[w.start:]
	b[0], b[1], b[2], b[3] = byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14)|0x80, byte(n>>21)
	w.ends = append(w.ends, len(w.buf))
	w.start = len(w.buf)
}

const maxEntry = 64 // bytes of a float entry, generously

func (w *payloadWriter) room(t int64) {
	if len(w.buf) == w.start {
		w.begin(t)
	} else if len(w.buf)-w.start > samplelog.MaxBlock-maxEntry {
		w.end()
		w.begin(t)
	}
}

func (w *payloadWriter) float(id uint64, t, st int64, v float64) {
	w.room(t)
	value := math.Float64bits(v)
	n := 8 - bits.TrailingZeros64(value)/8
	if value == 0 {
		n = 0
	}
	kind := byte(0)
	if st != 0 {
		kind = kindFloatST
	}
	w.entry(byte(n), kind, id, t, st)
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], value)
	w.buf = append(w.buf, raw[:n]...)
}

func (w *payloadWriter) histogram(id uint64, h series.Histogram) error {
	w.room(h.T)
	kind := byte(kindHistogram)
	var pb prompb.Histogram
	if h.H != nil {
		pb = prompb.FromIntHistogram(h.T, h.H)
	} else {
		kind = kindFloatHist
		pb = prompb.FromFloatHistogram(h.T, h.FH)
	}
	raw, err := pb.Marshal()
	if err != nil {
		return err
	}
	w.entry(0, kind, id, h.T, h.ST)
	w.buf = binary.AppendUvarint(w.buf, uint64(len(raw)))
	w.buf = append(w.buf, raw...)
	return nil
}

// exemplar takes labels as appendLabels writes them.
func (w *payloadWriter) exemplar(id uint64, t int64, value float64, labels string) {
	if len(w.buf)-w.start+len(labels) > samplelog.MaxBlock-maxEntry {
		w.end()
	}
	w.room(t)
	w.entry(0, kindExemplar, id, t, 0)
	w.buf = binary.AppendUvarint(w.buf, uint64(8+len(labels)))
	w.buf = binary.BigEndian.AppendUint64(w.buf, math.Float64bits(value))
	w.buf = append(w.buf, labels...)
}

func appendLabels(buf []byte, lset labels.Labels) []byte {
	lset.Range(func(l labels.Label) {
		for _, s := range [...]string{l.Name, l.Value} {
			buf = append(binary.AppendUvarint(buf, uint64(len(s))), s...)
		}
	})
	return buf
}

// readLabels is the inverse of appendLabels.
func readLabels(raw []byte) (labels.Labels, error) {
	r := payloadReader{b: raw}
	var b labels.ScratchBuilder
	for len(r.b) > 0 && !r.bad {
		name := string(r.bytes(r.uvarint()))
		b.Add(name, string(r.bytes(r.uvarint())))
	}
	if r.bad {
		return labels.EmptyLabels(), fmt.Errorf("%w: labels of an exemplar", errPayload)
	}
	return b.Labels(), nil
}

func (w *payloadWriter) entry(n, kind byte, id uint64, t, st int64) {
	at := len(w.buf)
	tag := n
	w.buf = append(w.buf, 0)
	if kind != 0 {
		tag |= tagKind
		w.buf = append(w.buf, kind)
	}
	if metric := id >> lowBits; metric != w.id>>lowBits {
		tag |= tagMetric
		w.buf = binary.AppendVarint(w.buf, int64(metric)-int64(w.id>>lowBits))
	}
	w.buf = binary.AppendVarint(w.buf, int64(id&lowMask)-int64(w.id&lowMask))
	if t != w.t {
		tag |= tagTime
		w.buf = binary.AppendVarint(w.buf, t-w.t)
	}
	if kind != 0 {
		w.buf = binary.AppendVarint(w.buf, st)
	}
	w.buf[at] = tag
	w.id, w.t = id, t
}

// finish returns the blocks. They are valid until reset.
func (w *payloadWriter) finish() [][]byte {
	w.end()
	w.blocks = w.blocks[:0]
	from := 0
	for _, to := range w.ends {
		w.blocks = append(w.blocks, w.buf[from:to])
		from = to
	}
	return w.blocks
}

// readPayload calls float, hist or exemplar for each entry of a row of the log, in order.
func readPayload(row []byte, float func(id uint64, t, st int64, v float64) error, hist func(id uint64, h series.Histogram) error,
	exemplar func(id uint64, t int64, value float64, labels string) error,
) error {
	r := payloadReader{b: row}
	for len(r.b) > 0 && !r.bad {
		block := payloadReader{b: r.bytes(r.uvarint())}
		if version := block.byte(); version != payloadVersion {
			return fmt.Errorf("%w: version %d", errPayload, version)
		}
		var id uint64
		t := block.varint()
		for len(block.b) > 0 && !block.bad {
			tag := block.byte()
			kind := byte(0)
			if tag&tagKind != 0 {
				kind = block.byte()
			}
			metric, low := int64(id>>lowBits), int64(id&lowMask)
			if tag&tagMetric != 0 {
				metric += block.varint()
			}
			low += block.varint()
			id = uint64(metric)<<lowBits | uint64(low)&lowMask
			if tag&tagTime != 0 {
				t += block.varint()
			}
			var st int64
			if kind != 0 {
				st = block.varint()
			}
			var err error
			switch kind {
			case 0, kindFloatST:
				var raw [8]byte
				copy(raw[:], block.bytes(uint64(min(tag&15, 8))))
				if !block.bad {
					err = float(id, t, st, math.Float64frombits(binary.BigEndian.Uint64(raw[:])))
				}
			case kindHistogram, kindFloatHist:
				var pb prompb.Histogram
				if err := pb.Unmarshal(block.bytes(block.uvarint())); err != nil {
					return fmt.Errorf("%w: %w", errPayload, err)
				}
				h := series.Histogram{T: t, ST: st}
				if kind == kindHistogram {
					h.H = pb.ToIntHistogram()
				} else {
					h.FH = pb.ToFloatHistogram()
				}
				err = hist(id, h)
			case kindExemplar:
				raw := block.bytes(block.uvarint())
				if len(raw) < 8 {
					return errPayload
				}
				err = exemplar(id, t, math.Float64frombits(binary.BigEndian.Uint64(raw)), string(raw[8:]))
			default:
				return fmt.Errorf("%w: kind %d", errPayload, kind)
			}
			if err != nil {
				return err
			}
		}
		if block.bad {
			return errPayload
		}
	}
	if r.bad {
		return errPayload
	}
	return nil
}

type payloadReader struct {
	b   []byte
	bad bool
}

func (r *payloadReader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	b := r.b[0]
	r.b = r.b[1:]
	return b
}

func (r *payloadReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *payloadReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *payloadReader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}
