package codec

import (
	"encoding/binary"
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// histogramChunkSamples is the number of samples after which a chunk inside a
// row of histograms is full. It is far below what chunkenc can count to, and
// keeps cheap both skipping to a range and recoding when buckets appear.
const histogramChunkSamples = 256

// AppendHistograms appends to dst one packed row, [EncodingHistogram], of the
// histograms h at the timestamps t (ms, strictly increasing), and returns the
// longer slice. st holds start timestamps (ms, 0 where unknown), nil for none.
// The histograms are not changed.
//
// A row is a container of Prometheus' histogram chunks. A new chunk begins
// where Prometheus would begin one: at a counter reset, given by the hint or
// detected, and where schema, zero threshold or custom bounds change. As in
// Prometheus, the layout of buckets may gain empty ones.
//
// The error says which histogram cannot be stored: its schema is unknown, or
// its buckets do not match its spans. It panics under the conditions of
// [Encoder.Append].
func AppendHistograms(dst []byte, t, st []int64, h []*histogram.Histogram) ([]byte, error) {
	w := histogramWriter{newChunk: func(withST bool) chunkenc.Chunk {
		if withST {
			return chunkenc.NewHistogramSTChunk()
		}
		return chunkenc.NewHistogramChunk()
	}}
	checkHistogramColumns(len(h), t, st)
	return w.appendRow(dst, t, st, func(i int) error {
		if err := storable(h[i].Schema, value.IsStaleNaN(h[i].Sum), h[i].PositiveSpans, h[i].NegativeSpans, len(h[i].PositiveBuckets), len(h[i].NegativeBuckets)); err != nil {
			return err
		}
		own := *h[i] // appending may replace its slices
		c, recoded, app, err := w.app.AppendHistogram(w.prev, startAt(st, i), t[i], &own, false)
		w.appended(c, recoded, app, err)
		return err
	})
}

// AppendFloatHistograms is [AppendHistograms] for histograms with float
// counts, [EncodingFloatHistogram].
func AppendFloatHistograms(dst []byte, t, st []int64, h []*histogram.FloatHistogram) ([]byte, error) {
	w := histogramWriter{newChunk: func(withST bool) chunkenc.Chunk {
		if withST {
			return chunkenc.NewFloatHistogramSTChunk()
		}
		return chunkenc.NewFloatHistogramChunk()
	}}
	checkHistogramColumns(len(h), t, st)
	return w.appendRow(dst, t, st, func(i int) error {
		if err := storable(h[i].Schema, value.IsStaleNaN(h[i].Sum), h[i].PositiveSpans, h[i].NegativeSpans, len(h[i].PositiveBuckets), len(h[i].NegativeBuckets)); err != nil {
			return err
		}
		own := *h[i]
		c, recoded, app, err := w.app.AppendFloatHistogram(w.prev, startAt(st, i), t[i], &own, false)
		w.appended(c, recoded, app, err)
		return err
	})
}

func checkHistogramColumns(n int, t, st []int64) {
	if n == 0 || n > MaxSamples {
		panic(fmt.Sprintf("codec: %d samples in a row, must be 1 to %d", n, MaxSamples))
	}
	if len(t) != n || st != nil && len(st) != n {
		panic(fmt.Sprintf("codec: columns differ in length: %d timestamps, %d histograms, %d start timestamps", len(t), n, len(st)))
	}
	if i := firstDisorder(t); i >= 0 {
		panic(fmt.Sprintf("codec: timestamps do not increase: %d follows %d", t[i], t[i-1]))
	}
}

func startAt(st []int64, i int) int64 {
	if st == nil {
		return 0
	}
	return st[i]
}

// storable says why chunkenc could not store or not give back a histogram.
func storable(schema int32, stale bool, positive, negative []histogram.Span, positiveBuckets, negativeBuckets int) error {
	if stale {
		return nil // only the marker is stored
	}
	if !histogram.IsKnownSchema(schema) {
		return histogram.UnknownSchemaError(schema)
	}
	if p, n := spanBuckets(positive), spanBuckets(negative); p != positiveBuckets || n != negativeBuckets {
		return fmt.Errorf("spans of %d positive and %d negative buckets, but %d and %d buckets", p, n, positiveBuckets, negativeBuckets)
	}
	return nil
}

func spanBuckets(spans []histogram.Span) int {
	n := 0
	for _, s := range spans {
		n += int(s.Length)
	}
	return n
}

// histogramWriter builds the chunks of a row.
type histogramWriter struct {
	newChunk func(withST bool) chunkenc.Chunk

	chunk chunkenc.Chunk
	app   chunkenc.Appender
	prev  chunkenc.Appender // of the chunk before, when this one is still empty
	next  chunkenc.Chunk    // the last sample began this chunk
}

// appended takes what an appender returned. A chunk that is not nil replaces
// the current one when that was recoded, and follows it otherwise.
func (w *histogramWriter) appended(c chunkenc.Chunk, recoded bool, app chunkenc.Appender, err error) {
	if err != nil {
		return
	}
	w.app, w.prev = app, nil
	switch {
	case c == nil:
	case recoded:
		w.chunk = c
	default:
		w.next = c
	}
}

func (w *histogramWriter) appendRow(dst []byte, t, st []int64, appendSample func(i int) error) ([]byte, error) {
	withST := !allZero(st)
	start := len(dst)
	dst = append(dst, version1<<4|flagHistogram)
	dst = binary.AppendUvarint(dst, uint64(len(t)))

	first := 0          // first sample of the current chunk
	lastMax := int64(0) // last timestamp of the chunk before
	flush := func(end int) {
		if first == 0 {
			dst = binary.AppendUvarint(dst, zigzag(t[0]))
		} else {
			dst = binary.AppendUvarint(dst, uint64(t[first]-lastMax))
		}
		lastMax = t[end-1]
		dst = binary.AppendUvarint(dst, uint64(lastMax-t[first]))
		b := w.chunk.Bytes()
		dst = append(dst, byte(w.chunk.Encoding()))
		dst = binary.AppendUvarint(dst, uint64(len(b)))
		dst = append(dst, b...)
		first = end
	}
	begin := func() error {
		w.chunk = w.newChunk(withST)
		w.prev = w.app
		var err error
		w.app, err = w.chunk.Appender()
		return err
	}
	for i := range t {
		if i == 0 || i-first >= histogramChunkSamples {
			if i > 0 {
				flush(i)
			}
			if err := begin(); err != nil {
				return dst[:start], err
			}
		}
		if err := appendSample(i); err != nil {
			return dst[:start], fmt.Errorf("histogram at %d: %w", t[i], err)
		}
		if w.next != nil {
			flush(i)
			w.chunk, w.next = w.next, nil
		}
	}
	flush(len(t))
	return appendChecksum(dst, start), nil
}
