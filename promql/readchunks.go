package promql

import (
	"fmt"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// plainChunkSet gives its series chunks of the three encodings that every reader of STREAMED_XOR_CHUNKS knows. Samples with
// start timestamps come in later ones (XOR2 and histograms with start timestamps), which a reader refuses or, being older
// than they are, cannot name; the protocol has no way to ask for them.
type plainChunkSet struct{ storage.ChunkSeriesSet }

func (s plainChunkSet) At() storage.ChunkSeries { return plainChunkSeries{s.ChunkSeriesSet.At()} }

type plainChunkSeries struct{ storage.ChunkSeries }

func (s plainChunkSeries) Iterator(it chunks.Iterator) chunks.Iterator {
	p, ok := it.(*plainChunks)
	if !ok {
		p = &plainChunks{}
	}
	p.Iterator, p.pending, p.err = s.ChunkSeries.Iterator(p.Iterator), p.pending[:0], nil
	return p
}

type plainChunks struct {
	chunks.Iterator
	pending []chunks.Meta // what a chunk became; the first is at hand
	err     error
}

func (p *plainChunks) Next() bool {
	if len(p.pending) > 1 {
		p.pending = p.pending[1:]
		return true
	}
	if p.err != nil || !p.Iterator.Next() {
		return false
	}
	p.pending, p.err = plain(p.Iterator.At(), p.pending[:0])
	return p.err == nil
}

func (p *plainChunks) At() chunks.Meta { return p.pending[0] }

func (p *plainChunks) Err() error {
	if p.err != nil {
		return p.err
	}
	return p.Iterator.Err()
}

// plain appends the chunk to out, encoded anew where it must be. A histogram chunk may fall apart into several.
func plain(m chunks.Meta, out []chunks.Meta) ([]chunks.Meta, error) {
	switch m.Chunk.Encoding() {
	case chunkenc.EncXOR, chunkenc.EncHistogram, chunkenc.EncFloatHistogram:
		return append(out, m), nil
	}
	series := storage.NewSeriesToChunkEncoder(&storage.SeriesEntry{
		SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator { return withoutST{m.Chunk.Iterator(nil)} },
	})
	it := series.Iterator(nil)
	for it.Next() {
		out = append(out, it.At())
	}
	if err := it.Err(); err != nil {
		return out, err
	}
	if len(out) == 0 {
		return out, fmt.Errorf("a chunk of encoding %s holds no samples", m.Chunk.Encoding())
	}
	return out, nil
}

// withoutST hides start timestamps.
type withoutST struct{ chunkenc.Iterator }

func (withoutST) AtST() int64 { return 0 }
