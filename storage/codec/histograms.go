package codec

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// Histograms holds decoded samples of histograms. The zero value is ready for
// use; decoding appends.
type Histograms struct {
	T []int64 // timestamps, ms
	// H and FH hold the histograms, as many as timestamps: H those of
	// [EncodingHistogram], FH those of [EncodingFloatHistogram]. The other is
	// empty. Histograms of one chunk share spans and custom bounds: copy one
	// before changing it.
	H  []*histogram.Histogram
	FH []*histogram.FloatHistogram
	// ST holds start timestamps, ms, 0 where unknown. It is empty when no
	// decoded row had any, otherwise as long as T.
	ST []int64

	// KeepResets gives the first histogram of a chunk that began with a counter
	// reset the hint CounterReset. Set it to encode the samples again: a reset
	// that only the hint knew of is then not lost. Unset, the hints are those
	// of Prometheus' TSDB, which says unknown there, because it cannot know
	// what precedes the chunk in an answer.
	KeepResets bool
}

// Reset drops all samples and keeps the memory of the slices.
func (c *Histograms) Reset() {
	clear(c.H)
	clear(c.FH)
	c.T, c.H, c.FH, c.ST = c.T[:0], c.H[:0], c.FH[:0], c.ST[:0]
}

// Decode appends the samples of a row. On error, which wraps [ErrCorrupt], c
// holds the samples that it held before.
func (c *Histograms) Decode(row []byte) error {
	return c.DecodeRange(row, math.MinInt64, math.MaxInt64)
}

// DecodeRange appends the samples of a row with mint <= t <= maxt (ms), and
// skips chunks that hold none. On error, which wraps [ErrCorrupt], c holds the
// samples that it held before.
func (c *Histograms) DecodeRange(row []byte, mint, maxt int64) error {
	it, err := newChunkIterator(row)
	if err != nil {
		return err
	}
	nt, nh, nfh, nst := len(c.T), len(c.H), len(c.FH), len(c.ST)
	for it.next() {
		if it.meta.MaxTime < mint || it.meta.MinTime > maxt {
			continue
		}
		if it.err = c.decodeChunk(it.meta, mint, maxt); it.err != nil {
			break
		}
	}
	if it.err != nil {
		clear(c.H[nh:])
		clear(c.FH[nfh:])
		c.T, c.H, c.FH, c.ST = c.T[:nt], c.H[:nh], c.FH[:nfh], c.ST[:nst]
	}
	return it.err
}

// decodeChunk appends the samples of one chunk. chunkenc trusts its bytes:
// what it panics on is corrupt.
func (c *Histograms) decodeChunk(m chunks.Meta, mint, maxt int64) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = corrupt("histogram chunk: %v", r)
		}
	}()
	reset := false
	if h, ok := m.Chunk.(interface {
		GetCounterResetHeader() chunkenc.CounterResetHeader
	}); ok && c.KeepResets {
		reset = h.GetCounterResetHeader() == chunkenc.CounterReset
	}
	withST := m.Chunk.Encoding() == chunkenc.EncHistogramST || m.Chunk.Encoding() == chunkenc.EncFloatHistogramST
	it := m.Chunk.Iterator(nil)
	read := 0
	last := int64(math.MinInt64)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		t := it.AtT()
		if read > 0 && t <= last || read == 0 && t != m.MinTime {
			return corrupt("timestamps of a histogram chunk do not increase")
		}
		last = t
		read++
		if t < mint || t > maxt {
			continue
		}
		switch typ {
		case chunkenc.ValHistogram:
			_, h := it.AtHistogram(nil)
			if reset && read == 1 {
				h.CounterResetHint = histogram.CounterReset
			}
			c.H = append(c.H, h)
		case chunkenc.ValFloatHistogram:
			_, fh := it.AtFloatHistogram(nil)
			if reset && read == 1 {
				fh.CounterResetHint = histogram.CounterReset
			}
			c.FH = append(c.FH, fh)
		}
		c.T = append(c.T, t)
		if st := it.AtST(); withST || len(c.ST) > 0 {
			for len(c.ST) < len(c.T)-1 {
				c.ST = append(c.ST, 0)
			}
			c.ST = append(c.ST, st)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("%w: histogram chunk: %w", ErrCorrupt, err)
	}
	if read != m.Chunk.NumSamples() || last != m.MaxTime {
		return corrupt("histogram chunk ends at %d, must end at %d", last, m.MaxTime)
	}
	return nil
}

// AppendChunks appends to dst the chunks of a row of histograms that may hold
// samples with mint <= t <= maxt (ms), as Prometheus' own series iterators
// take them, undecoded. They refer to the bytes of row.
func AppendChunks(dst []chunks.Meta, row []byte, mint, maxt int64) ([]chunks.Meta, error) {
	it, err := newChunkIterator(row)
	if err != nil {
		return dst, err
	}
	n := len(dst)
	for it.next() {
		if it.meta.MaxTime >= mint && it.meta.MinTime <= maxt {
			dst = append(dst, it.meta)
		}
	}
	if it.err != nil {
		return dst[:n], it.err
	}
	return dst, nil
}

func histogramBounds(row []byte) (mint, maxt int64, err error) {
	it, err := newChunkIterator(row)
	if err != nil {
		return 0, 0, err
	}
	for it.next() {
		if !it.some {
			mint = it.meta.MinTime
		}
		maxt = it.meta.MaxTime
	}
	return mint, maxt, it.err
}

// chunkIterator walks over the chunks of a row.
type chunkIterator struct {
	r    reader
	left int  // samples not yet passed
	some bool // the current chunk is not the first
	meta chunks.Meta
	err  error
}

func newChunkIterator(row []byte) (*chunkIterator, error) {
	body, err := checked(row)
	if err != nil {
		return nil, err
	}
	it := chunkIterator{r: reader{b: body}}
	var h header
	if err := it.r.histogramHeader(&h); err != nil {
		return nil, err
	}
	it.left = h.count
	return &it, nil
}

func (it *chunkIterator) next() bool {
	if it.err != nil || it.left == 0 {
		if it.err == nil && len(it.r.b) != 0 {
			it.err = corrupt("%d bytes after the last chunk", len(it.r.b))
		}
		return false
	}
	first := it.r.uvarint()
	it.some = it.meta.Chunk != nil
	if !it.some {
		it.meta.MinTime = unzigzag(first)
	} else {
		it.meta.MinTime = int64(uint64(it.meta.MaxTime) + first)
		if it.meta.MinTime <= it.meta.MaxTime {
			it.err = corrupt("histogram chunks overlap")
			return false
		}
	}
	it.meta.MaxTime = int64(uint64(it.meta.MinTime) + it.r.uvarint())
	enc := chunkenc.Encoding(it.r.byte())
	data := it.r.bytes(int(min(it.r.uvarint(), math.MaxInt32)))
	switch {
	case it.r.bad:
		it.err = corrupt("histogram chunk is cut off")
	case it.meta.MaxTime < it.meta.MinTime:
		it.err = corrupt("histogram chunk ends before it begins")
	case !isHistogramEncoding(enc):
		it.err = corrupt("chunk of encoding %d", enc)
	case !plausibleLayout(data):
		it.err = corrupt("histogram chunk with more buckets than bits")
	default:
		it.meta.Chunk, it.err = chunkenc.FromData(enc, data)
	}
	if it.err != nil {
		return false
	}
	n := it.meta.Chunk.NumSamples()
	if n == 0 || n > it.left {
		it.err = corrupt("histogram chunk of %d samples, %d expected in all", n, it.left)
		return false
	}
	it.left -= n
	return true
}

func isHistogramEncoding(e chunkenc.Encoding) bool {
	switch e {
	case chunkenc.EncHistogram, chunkenc.EncHistogramST, chunkenc.EncFloatHistogram, chunkenc.EncFloatHistogramST:
		return true
	default:
		return false
	}
}
