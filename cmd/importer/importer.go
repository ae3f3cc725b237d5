package importer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/chunks"
	"github.com/promkeep/promkeep/storage/series"
)

// Options of every source.
type Options struct {
	Tenant      string
	Labels      labels.Labels       // added to each series that has no label of the name
	Mint, Maxt  int64               // ms, what is asked for; math.MinInt64 and math.MaxInt64 are no bound
	Matchers    [][]*labels.Matcher // a series must match one of them; none is all series
	Again       bool                // what was imported already too
	Concurrency int                 // days at the same time
	Logger      *slog.Logger
	Progress    *Progress
}

// Importer brings history into a storage.Import.
type Importer struct {
	Options
	asked Options // before the range was cut
	to    *storage.Import
}

// New returns an importer. The options' time range is cut to what is taken.
func New(to *storage.Import, o Options) *Importer {
	asked := o
	mint, maxt := to.Range()
	o.Mint, o.Maxt = max(o.Mint, mint), min(o.Maxt, maxt)
	o.Concurrency = max(o.Concurrency, 1)
	return &Importer{Options: o, asked: asked, to: to}
}

// source is the digest of what is imported and how. What is asked for is part of it, but not the retention, which moves.
func (im *Importer) source(parts ...string) storage.Source {
	h := sha256.New()
	add := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	add(im.Tenant)
	add(im.Labels.String())
	for _, ms := range im.Matchers {
		add(selector(ms))
	}
	for _, p := range parts {
		add(p)
	}
	return storage.Source(h.Sum(nil)[:16])
}

func selector(ms []*labels.Matcher) string {
	texts := make([]string, len(ms))
	for i, m := range ms {
		texts[i] = m.String()
	}
	return "{" + strings.Join(texts, ",") + "}"
}

// marks returns how far the source came the last time.
func (im *Importer) marks(ctx context.Context, s storage.Source) (map[int64]storage.Mark, error) {
	if im.Again {
		return nil, im.to.Forget(ctx, s)
	}
	return im.to.Marks(ctx, s)
}

// external adds the labels of the options, as Prometheus adds external labels.
func (im *Importer) external(b *labels.Builder, lset labels.Labels) labels.Labels {
	if im.Labels.IsEmpty() {
		return lset
	}
	b.Reset(lset)
	im.Labels.Range(func(l labels.Label) {
		if lset.Get(l.Name) == "" {
			b.Set(l.Name, l.Value)
		}
	})
	return b.Labels()
}

// add hands samples to a batch. A series that cannot be stored is logged, and left out.
func (im *Importer) add(b *storage.ImportBatch, lset labels.Labels, until int64, set *series.Set) error {
	err := b.Add(lset, until, set)
	if errors.Is(err, storage.ErrLabels) {
		im.Progress.complain(im.Logger, err)
		return nil
	}
	return err
}

// day is what is wanted of a day.
type day struct {
	source storage.Source
	start  int64 // ms
	mint   int64 // ms, of what is wanted of the day
	maxt   int64 // ms, inclusive
	until  int64 // ms: up to when the source cannot tell whether its series live on
	mark   storage.Mark
}

// copy imports the series of a set, in the order of their labels, as those of a day. It commits batches on the way, each with
// the labels up to which it came as cursor, and at the end, with the day as finished.
func (im *Importer) copy(ctx context.Context, d day, set promstorage.SeriesSet) error {
	after, err := readCursor(d.mark.Cursor)
	if err != nil {
		return err
	}
	var (
		batch   = im.to.NewBatch(true)
		builder = labels.NewBuilder(labels.EmptyLabels())
		samples series.Set
		it      chunkenc.Iterator
	)
	for set.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := set.At()
		lset := s.Labels()
		if !after.IsEmpty() && labels.Compare(lset, after) <= 0 {
			continue
		}
		it = s.Iterator(it)
		n, err := load(&samples, it, d.mint, d.maxt)
		if err != nil {
			return fmt.Errorf("%s: %w", lset, err)
		}
		if n == 0 {
			continue
		}
		if err := im.add(batch, im.external(builder, lset), d.until, &samples); err != nil {
			return err
		}
		im.Progress.Add(int64(n))
		if batch.Full() {
			if err := batch.Commit(ctx, d.source, storage.Mark{Unit: d.start, Cursor: cursor(lset)}); err != nil {
				return err
			}
		}
	}
	if err := set.Err(); err != nil {
		return err
	}
	return batch.Commit(ctx, d.source, storage.Mark{Unit: d.start, Finished: true})
}

// load reads the samples within [mint, maxt], in ms.
func load(to *series.Set, it chunkenc.Iterator, mint, maxt int64) (n int, err error) {
	to.Reset()
	for kind := it.Seek(mint); kind != chunkenc.ValNone; kind = it.Next() {
		t := it.AtT()
		if t > maxt {
			break
		}
		st := it.AtST()
		switch kind {
		case chunkenc.ValFloat:
			_, v := it.At()
			to.T, to.V = append(to.T, t), append(to.V, v)
			if st != 0 || len(to.ST) > 0 {
				for len(to.ST) < len(to.T)-1 {
					to.ST = append(to.ST, 0)
				}
				to.ST = append(to.ST, st)
			}
		case chunkenc.ValHistogram:
			_, h := it.AtHistogram(nil)
			to.Histograms = append(to.Histograms, series.Histogram{T: t, ST: st, H: h})
		case chunkenc.ValFloatHistogram:
			_, fh := it.AtFloatHistogram(nil)
			to.Histograms = append(to.Histograms, series.Histogram{T: t, ST: st, FH: fh})
		default:
			return n, fmt.Errorf("a sample of an unknown kind %v", kind)
		}
		n++
	}
	return n, it.Err()
}

// cursor notes labels as text.
func cursor(lset labels.Labels) string {
	// As base64, for labels may be anything.
	var pairs [][]byte
	lset.Range(func(l labels.Label) { pairs = append(pairs, []byte(l.Name), []byte(l.Value)) })
	text, _ := json.Marshal(pairs)
	return string(text)
}

func readCursor(text string) (labels.Labels, error) {
	if text == "" {
		return labels.EmptyLabels(), nil
	}
	var pairs [][]byte
	if err := json.Unmarshal([]byte(text), &pairs); err != nil || len(pairs)%2 != 0 {
		return labels.EmptyLabels(), fmt.Errorf("how far an earlier import came cannot be read: %q; --again begins at the start", text)
	}
	var b labels.ScratchBuilder
	for i := 0; i < len(pairs); i += 2 {
		b.Add(string(pairs[i]), string(pairs[i+1]))
	}
	return b.Labels(), nil
}

const dayMillis = int64(chunks.Day)

// dayOf returns the beginning of the day, in ms.
func dayOf(t int64) int64 { return chunks.DayEnd(t) - dayMillis }

// ParseTime reads a time as RFC 3339, as a date, or as seconds since 1970, and returns it in ms.
func ParseTime(s string) (int64, error) {
	for _, layout := range []string{time.RFC3339Nano, time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UnixMilli(), nil
		}
	}
	var seconds float64
	if _, err := fmt.Sscanf(s, "%g", &seconds); err == nil && math.Abs(seconds) < 1e11 {
		return int64(math.Round(seconds * 1000)), nil
	}
	return 0, fmt.Errorf("%q is no time: want 2026-01-31, 2026-01-31T12:00:00Z, or seconds since 1970", s)
}
