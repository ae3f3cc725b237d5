package storage

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/chunks"
	"github.com/promkeep/promkeep/storage/codec"
	"github.com/promkeep/promkeep/storage/series"
)

// ErrLabels means that a series cannot be stored because of its labels.
var ErrLabels = errors.New("the series cannot be stored")

// ImportBatch collects packed rows that are committed together. Not for concurrent use.
type ImportBatch struct {
	im      *Import
	daily   bool
	series  []importSeries
	samples int64
	bytes   int64
	view    series.Set
	packer  chunks.Packer
}

// importSeries is what a batch holds of a series.
type importSeries struct {
	labels         labels.Labels
	hash           [16]byte
	id             uint64
	started, ended int32 // hours since 1970
	rows           []chunks.Row
}

// NewBatch begins a batch: a daily one, of samples of few days with many samples each, which go to parts of their days, or
// one of samples of any time.
func (im *Import) NewBatch(daily bool) *ImportBatch { return &ImportBatch{im: im, daily: daily} }

// The bounds of a batch that is worth committing: large ones make few parts, and their rows wait in memory.
const (
	batchSamples = 4 << 20
	batchBytes   = 48 << 20
	batchSeries  = 200_000
)

// Full tells whether the batch has reached the size at which it should be committed.
func (b *ImportBatch) Full() bool {
	return b.samples >= b.im.batch || b.bytes >= batchBytes || len(b.series) >= batchSeries
}

// Samples is how many samples the batch holds.
func (b *ImportBatch) Samples() int64 { return b.samples }

// Add packs samples of a series: of those in set, in order and one per timestamp, all that the import takes. until (ms) is
// up to when the series may have lived, for the catalogue, if that is later than its last sample. It keeps nothing of set. The
// error wraps ErrLabels if the series cannot be stored; the batch is as before then, and can be used.
func (b *ImportBatch) Add(lset labels.Labels, until int64, set *series.Set) error {
	im := b.im
	if err := storable(lset); err != nil {
		im.Stats.BadSeries.Add(1)
		return err
	}
	n := len(set.T) + len(set.Histograms)
	old := between(set, &b.view, im.mint, im.maxt)
	s := &b.view
	im.Stats.TooOld.Add(int64(old))
	s.Histograms = slices.DeleteFunc(s.Histograms, func(h series.Histogram) bool {
		if validHistogram(h) {
			return false
		}
		im.Stats.BadSamples.Add(1)
		n--
		return true
	})
	taken := len(s.T) + len(s.Histograms)
	im.Stats.TooNew.Add(int64(n - old - taken))
	if taken == 0 {
		return nil
	}
	entry := importSeries{labels: lset, hash: identity(lset)}
	first, last := bounds(s)
	entry.started, entry.ended = catalogue.Hour(first), catalogue.Hour(max(last, min(until, im.maxt)))
	if !im.dry {
		if err := b.pack(&entry, s); err != nil {
			return fmt.Errorf("%s: %w", lset, err)
		}
	} else {
		im.mu.Lock()
		im.learn(entry.hash, knownSeries{})
		im.mu.Unlock()
	}
	b.series = append(b.series, entry)
	b.samples += int64(taken)
	return nil
}

// identity tells series of an import apart.
func identity(lset labels.Labels) [16]byte {
	sum := sha256.Sum256(lset.Bytes(nil))
	return [16]byte(sum[:16])
}

// storable tells what is wrong with labels. They are sorted, and have no empty values, wherever they come from.
func storable(lset labels.Labels) (err error) {
	if lset.Get(model.MetricNameLabel) == "" {
		return fmt.Errorf("%w: %s has no metric name", ErrLabels, lset)
	}
	lset.Range(func(l labels.Label) {
		switch {
		case err != nil:
		case !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value):
			err = fmt.Errorf("%w: %q: label %q is not valid UTF-8", ErrLabels, lset, l.Name)
		case strings.IndexByte(l.Name, 0) >= 0 || strings.IndexByte(l.Value, 0) >= 0:
			err = fmt.Errorf("%w: %q: label %q has a NUL byte, which PostgreSQL cannot store", ErrLabels, lset, l.Name)
		case len(l.Name) > catalogue.MaxLabelValue/4:
			err = fmt.Errorf("%w: a label name has %d bytes, the limit is %d", ErrLabels, len(l.Name), catalogue.MaxLabelValue/4)
		case len(l.Value) > catalogue.MaxLabelValue:
			err = fmt.Errorf("%w: the value of label %q has %d bytes, the limit is %d", ErrLabels, l.Name, len(l.Value), catalogue.MaxLabelValue)
		}
	})
	return err
}

func validHistogram(h series.Histogram) bool {
	if h.H != nil {
		return value.IsStaleNaN(h.H.Sum) || h.H.Validate() == nil
	}
	return value.IsStaleNaN(h.FH.Sum) || h.FH.Validate() == nil
}

// between makes out the samples of set within [mint, maxt], and returns how many are before. Floats are shared, histograms copied.
func between(set, out *series.Set, mint, maxt int64) (old int) {
	part := func(n int, at func(int) int64) (from, to int) {
		for to = n; to > 0 && at(to-1) > maxt; to-- {
		}
		for from < to && at(from) < mint {
			from++
		}
		return from, to
	}
	from, to := part(len(set.T), func(i int) int64 { return set.T[i] })
	hfrom, hto := part(len(set.Histograms), func(i int) int64 { return set.Histograms[i].T })
	out.T, out.V, out.ST = set.T[from:to], set.V[from:to], nil
	if len(set.ST) > 0 {
		out.ST = set.ST[from:to]
	}
	out.Histograms = append(out.Histograms[:0:0], set.Histograms[hfrom:hto]...)
	return from + hfrom
}

func bounds(s *series.Set) (first, last int64) {
	first, last = math.MaxInt64, math.MinInt64
	if n := len(s.T); n > 0 {
		first, last = s.T[0], s.T[n-1]
	}
	if n := len(s.Histograms); n > 0 {
		first, last = min(first, s.Histograms[0].T), max(last, s.Histograms[n-1].T)
	}
	return first, last
}

// pack encodes samples: a row for each day, or for each window.
func (b *ImportBatch) pack(to *importSeries, s *series.Set) error {
	end := chunks.WindowEnd
	if b.daily {
		end = chunks.DayEnd
	}
	rest := *s
	for len(rest.T)+len(rest.Histograms) > 0 {
		first, _ := bounds(&rest)
		upto := end(first)
		n, h := 0, 0
		for n < len(rest.T) && rest.T[n] < upto {
			n++
		}
		for h < len(rest.Histograms) && rest.Histograms[h].T < upto {
			h++
		}
		part := series.Set{Columns: codec.Columns{T: rest.T[:n], V: rest.V[:n]}, Histograms: rest.Histograms[:h]}
		if len(rest.ST) > 0 {
			part.ST, rest.ST = rest.ST[:n], rest.ST[n:]
		}
		rest.T, rest.V, rest.Histograms = rest.T[n:], rest.V[n:], rest.Histograms[h:]
		rows, err := b.packer.Encode(0, 0, &part)
		if err != nil {
			return err
		}
		for _, r := range rows {
			b.bytes += int64(len(r.Data))
		}
		to.rows = append(to.rows, rows...)
	}
	return nil
}

// Commit writes the batch and the mark in one transaction. Afterwards the batch is empty. If it fails nothing, or after a
// lost answer all, of it was written; importing the same again changes no answer.
func (b *ImportBatch) Commit(ctx context.Context, source Source, mark Mark) error {
	im := b.im
	mark.Samples = b.samples
	defer func() { *b = ImportBatch{im: im, daily: b.daily} }()
	if im.dry {
		im.Stats.Samples.Add(b.samples)
		return nil
	}
	if len(b.series) > 0 {
		if err := im.again(ctx, func() error { return im.resolve(ctx, b.series) }); err != nil {
			return err
		}
		slices.SortFunc(b.series, func(x, y importSeries) int {
			return cmp.Or(cmp.Compare(x.id, y.id), cmp.Compare(x.rows[0].Start, y.rows[0].Start))
		})
		if err := im.again(ctx, func() error { return im.room(ctx) }); err != nil {
			return err
		}
	}
	var parts int
	err := im.again(ctx, func() (err error) {
		parts, err = im.write(ctx, b, source, mark)
		return err
	})
	if err != nil {
		return err
	}
	im.Stats.Samples.Add(b.samples)
	im.Stats.Bytes.Add(b.bytes)
	im.Stats.Parts.Add(int64(parts))
	return nil
}

// resolve fills in the IDs, and makes the catalogue know until when the series lived.
func (im *Import) resolve(ctx context.Context, all []importSeries) error {
	missing := map[[16]byte]*catalogue.Series{}
	im.mu.Lock()
	for i := range all {
		s := &all[i]
		k, ok := im.known[s.hash]
		if ok && k.started <= s.started && k.ended >= s.ended {
			s.id = k.id
			continue
		}
		c := missing[s.hash]
		if c == nil {
			c = &catalogue.Series{Tenant: im.tenant, Labels: s.labels, Started: s.started, Ended: s.ended}
			missing[s.hash] = c
		}
		c.Started, c.Ended = min(c.Started, s.started), max(c.Ended, s.ended)
	}
	im.mu.Unlock()
	if len(missing) == 0 {
		return nil
	}
	list := make([]*catalogue.Series, 0, len(missing))
	for _, c := range missing {
		list = append(list, c)
	}
	if err := im.catalogue.Import(ctx, list); err != nil {
		return err
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	for hash, c := range missing {
		k, ok := im.known[hash]
		if !ok {
			k = knownSeries{c.ID, c.Started, c.Ended}
		}
		im.learn(hash, knownSeries{c.ID, min(k.started, c.Started), max(k.ended, c.Ended)})
	}
	for i := range all {
		if c := missing[all[i].hash]; c != nil {
			all[i].id = c.ID
		}
	}
	return nil
}

// learn remembers a series; the caller holds mu.
func (im *Import) learn(hash [16]byte, s knownSeries) {
	if _, ok := im.known[hash]; !ok {
		im.Stats.Series.Add(1)
		if len(im.known) >= maxKnown {
			clear(im.known)
		}
	}
	im.known[hash] = s
}

// write commits the rows of a batch, in order of series, and its mark.
func (im *Import) write(ctx context.Context, b *ImportBatch, source Source, mark Mark) (parts int, err error) {
	days := map[int64]int64{} // by day, the oldest sample of a part
	oldest, youngest := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range b.series {
		for _, r := range b.series[i].rows {
			day := int64(0)
			if b.daily {
				day = chunks.DayEnd(r.Start)
			}
			if first, ok := days[day]; !ok || r.Start < first {
				days[day] = r.Start
			}
			oldest, youngest = min(oldest, r.Start), max(youngest, r.End)
		}
	}
	order := make([]int64, 0, len(days))
	for day := range days {
		order = append(order, day)
	}
	slices.Sort(order)
	err = pgx.BeginFunc(ctx, im.pool, func(tx pgx.Tx) error {
		if len(order) > 0 {
			last, err := chunks.ImportFence(ctx, tx)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, schema.ImportPatience); err != nil {
				return err
			}
			for _, day := range order {
				if err := im.writePart(ctx, tx, b, day, days[day], last+1); err != nil {
					return err
				}
			}
			if err := chunks.ImportCommit(ctx, tx, last+1, oldest, youngest); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, schema.ImportMark, uuid(source), mark.Unit, mark.Cursor, mark.Finished, mark.Samples)
		return err
	})
	return len(order), err
}

// writePart writes the rows of a day, or all if the batch is not daily.
func (im *Import) writePart(ctx context.Context, tx pgx.Tx, b *ImportBatch, day, oldest int64, version int32) error {
	level := chunks.LevelWindows
	if b.daily {
		level = chunks.LevelDay
	}
	part, err := chunks.SealedPart(ctx, tx, level, oldest)
	if err != nil {
		return err
	}
	_, err = chunks.WriteRecent(ctx, tx, part, func(w *chunks.Writer) error {
		for i := range b.series {
			for _, r := range b.series[i].rows {
				if b.daily && chunks.DayEnd(r.Start) != day {
					continue
				}
				r.SeriesID, r.Version = b.series[i].id, version
				if err := w.Write(part, r); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return err
}
