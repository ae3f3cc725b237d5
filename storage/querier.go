package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/chunks"
	"github.com/promkeep/promkeep/storage/codec"
	"github.com/promkeep/promkeep/storage/head"
	"github.com/promkeep/promkeep/storage/series"
)

type tenantKey struct{}

// WithTenant makes queries with the context read the tenant of that name, instead of DefaultTenant.
func WithTenant(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

func tenantOf(ctx context.Context) string {
	if name, ok := ctx.Value(tenantKey{}).(string); ok && name != "" {
		return name
	}
	return DefaultTenant
}

// Querier implements Prometheus' storage.Queryable over all samples, in memory and in the database.
func (db *DB) Querier(mint, maxt int64) (promstorage.Querier, error) {
	return newQuerier(db, mint, maxt), nil
}

// ChunkQuerier implements Prometheus' storage.ChunkQueryable.
func (db *DB) ChunkQuerier(mint, maxt int64) (promstorage.ChunkQuerier, error) {
	return &chunkQuerier{newQuerier(db, mint, maxt)}, nil
}

type querier struct {
	db         *DB
	mint, maxt int64

	closed  chan struct{}
	once    sync.Once
	running sync.WaitGroup // Selects that ask the database
	shares  shares         // of the budgets of the Selects
}

func newQuerier(db *DB, mint, maxt int64) *querier {
	return &querier{db: db, mint: mint, maxt: maxt, closed: make(chan struct{})}
}

// Close ends what is still being read.
func (q *querier) Close() error {
	q.once.Do(func() { close(q.closed) })
	q.running.Wait()
	q.shares.giveBack()
	return nil
}

type chunkQuerier struct{ *querier }

// Select returns the series that match, sorted whether asked for or not, in chunks, and reads their samples as they are wanted.
func (q *chunkQuerier) Select(ctx context.Context, sorted bool, hints *promstorage.SelectHints, ms ...*labels.Matcher) promstorage.ChunkSeriesSet {
	if hints != nil && (hints.Func == "series" || hints.Limit > 0) {
		return promstorage.NewSeriesSetToChunkSet(q.querier.Select(oneAtATime(ctx), sorted, hints, ms...))
	}
	mint, maxt := q.bounds(hints)
	if mint > maxt {
		return promstorage.EmptyChunkSeriesSet()
	}
	set, err := q.stream(ctx, mint, maxt, slices.Clone(ms))
	if err != nil {
		return promstorage.ErrChunkSeriesSet(err)
	}
	return promstorage.NewSeriesSetToChunkSet(set)
}

// bounds returns the times, in ms, that a Select with the hints is about.
func (q *querier) bounds(hints *promstorage.SelectHints) (mint, maxt int64) {
	if hints != nil && !hints.DisableTrimming {
		return max(q.mint, hints.Start), min(q.maxt, hints.End)
	}
	return q.mint, q.maxt
}

// Select returns the series that match with their samples in the querier's range, all as of one moment.
func (q *querier) Select(ctx context.Context, sorted bool, hints *promstorage.SelectHints, ms ...*labels.Matcher) promstorage.SeriesSet {
	mint, maxt := q.bounds(hints)
	if mint > maxt {
		return promstorage.EmptySeriesSet()
	}
	ctx = q.shares.of(ctx)
	set := &seriesSet{at: -1, done: make(chan struct{})}
	if mint >= q.db.head.CoverFrom() {
		defer close(set.done)
		set.series, set.err = q.find(ctx, mint, maxt, sorted, hints, ms)
		return set
	}
	// A query asks for all its selectors before it reads the first: the database can look for them at the same time.
	ctx, cancel := context.WithCancel(ctx)
	ms = slices.Clone(ms) // looking for series sorts them, and the query prints them meanwhile
	q.running.Go(func() {
		defer close(set.done)
		defer cancel()
		set.series, set.err = q.find(ctx, mint, maxt, sorted, hints, ms)
	})
	q.running.Go(func() {
		select {
		case <-q.closed:
			cancel()
		case <-set.done:
		}
	})
	return set
}

func (q *querier) find(ctx context.Context, mint, maxt int64, sorted bool, hints *promstorage.SelectHints, ms []*labels.Matcher) ([]*selected, error) {
	found, err := q.db.collect(ctx, mint, maxt, ms)
	if err != nil {
		return nil, err
	}
	if hints != nil && hints.Func == "series" {
		// The samples are not wanted, but a series without any in the range must not appear.
		found = slices.DeleteFunc(found, func(s *selected) bool { return !s.hasSample(s.mint, maxt) })
	}
	if sorted || (hints != nil && hints.Limit > 0) {
		slices.SortFunc(found, func(a, b *selected) int { return labels.Compare(a.labels, b.labels) })
	}
	if hints != nil && hints.Limit > 0 && len(found) > hints.Limit {
		found = found[:hints.Limit]
	}
	return found, nil
}

// selected is one series of a result: what lies in memory and what was read from the database.
type selected struct {
	db         *DB
	id         uint64
	labels     labels.Labels
	mint, maxt int64
	from       int64 // samples before do not count, even to tell what comes after from a reset
	cover      int64 // rows of the view count from here on, rows of the database up to here
	view       head.View
	rows       []chunks.Row
	erased     []chunks.Span
	share      *share
}

// slab makes the values that a query has many of, some at a time.
type slab[T any] struct{ free []T }

func (s *slab[T]) next() *T {
	if len(s.free) == 0 {
		s.free = make([]T, 32)
	}
	x := &s.free[0]
	s.free = s.free[1:]
	return x
}

// selectSeries returns a series, with nothing of it yet. Of [mint, maxt] it wants what its retention has left.
func (db *DB) selectSeries(ctx context.Context, made *slab[selected], id uint64, l labels.Labels, mint, maxt int64) *selected {
	s := made.next()
	*s = selected{db: db, id: id, labels: l, mint: mint, maxt: maxt, from: math.MinInt64, share: shareOf(ctx)}
	if !db.keepsAll(mint) {
		s.from = db.keptFrom(tenantOf(ctx), l)
		s.mint = max(mint, s.from)
	}
	return s
}

// collect finds the series and what there is of them, all before or all after any deletion.
func (db *DB) collect(ctx context.Context, mint, maxt int64, ms []*labels.Matcher) ([]*selected, error) {
	return db.consistent(ctx, func() ([]*selected, error) {
		out, err := db.collectOnce(ctx, mint, maxt, ms, true)
		if errors.Is(err, chunks.ErrStale) {
			shareOf(ctx).restart()
			return db.collectOnce(ctx, mint, maxt, ms, false)
		}
		return out, err
	})
}

// consistent reads series, again if something was deleted meanwhile.
func (db *DB) consistent(ctx context.Context, read func() ([]*selected, error)) ([]*selected, error) {
	const tries = 5
	for try := 1; ; try++ {
		before := db.erased.Load()
		shareOf(ctx).restart()
		out, err := read()
		after := db.erased.Load()
		if err != nil || before == after || try == tries {
			clip(out, before, after)
			return out, err
		}
	}
}

// collectOnce finds the series, takes what is in memory, and reads the rest from the database. The order matters: what is
// flushed and evicted after a look into memory is in the database by the time that is asked. With recall, which series the catalogue has is taken for what it was
// when it was last asked, and the error chunks.ErrStale if that turns out wrong.
func (db *DB) collectOnce(ctx context.Context, mint, maxt int64, ms []*labels.Matcher, recall bool) ([]*selected, error) {
	tenant, ok, err := db.catalogue.LookupTenant(ctx, tenantOf(ctx))
	if err != nil {
		return nil, unavailable(err)
	}
	if !ok {
		return nil, nil
	}
	inHead, err := db.head.Tenant(tenant).Select(ctx, ms...)
	if err != nil {
		return nil, err
	}
	out, share := make([]*selected, 0, len(inHead)), shareOf(ctx)
	var made slab[selected]
	for _, s := range inHead {
		sel := db.selectSeries(ctx, &made, s.ID, s.Labels, mint, maxt)
		sel.view = s.View(sel.mint, maxt)
		out = append(out, sel)
		if err := share.series(&sel.view, 0); err != nil {
			return nil, err
		}
	}
	cover := db.head.CoverFrom()
	for _, s := range out {
		s.cover = cover
	}
	if mint < cover {
		if out, err = db.collectOld(ctx, tenant, mint, min(maxt, cover-1), maxt, cover, inHead, out, ms, recall); err != nil {
			return nil, err
		}
	}
	return withSamples(out), nil
}

// withSamples leaves out the series of which nothing was found.
func withSamples(all []*selected) []*selected {
	return slices.DeleteFunc(all, func(s *selected) bool {
		return len(s.rows) == 0 && len(s.view.Rows) == 0 && len(s.view.Samples) == 0 && len(s.view.Histograms) == 0
	})
}

// known is series in memory as the catalogue knows them.
func known(inHead []*head.Series) []catalogue.Series {
	out := make([]catalogue.Series, len(inHead))
	for i, s := range inHead {
		out[i] = catalogue.Series{ID: s.ID, Tenant: s.Tenant(), Labels: s.Labels, Started: s.Started(), Ended: catalogue.Unknown}
	}
	return out
}

// collectOld adds what the database holds of [mint, upto] to out, which is of the series inHead.
func (db *DB) collectOld(ctx context.Context, tenant int32, mint, upto, maxt, cover int64, inHead []*head.Series, out []*selected, ms []*labels.Matcher, recall bool) ([]*selected, error) {
	byID := make(map[uint64]*selected, len(out))
	ids, share := make([]uint64, 0, len(out)), shareOf(ctx)
	var made slab[selected]
	for _, s := range out {
		byID[s.id] = s
		ids = append(ids, s.id)
	}
	add := func(c catalogue.Series) error {
		if byID[c.ID] != nil {
			return nil
		}
		s := db.selectSeries(ctx, &made, c.ID, c.Labels, mint, maxt)
		s.cover = cover
		byID[c.ID] = s
		out = append(out, s)
		ids = append(ids, c.ID)
		return share.series(&s.view, int(c.Labels.ByteSize()))
	}
	var holds func(version int64) bool
	if recall {
		var found []catalogue.Series
		found, holds = db.catalogue.Recall(tenant, mint, upto, ms...)
		for _, c := range found {
			if err := add(c); err != nil {
				return nil, err
			}
		}
	}
	if holds != nil && len(ids) > 0 { // of no series no rows are read, which would show that it is still none
		return out, db.readRows(ctx, byID, ids, mint, upto, holds)
	}
	if err := db.catalogue.Select(ctx, tenant, mint, upto, func() []catalogue.Series { return known(inHead) }, add, ms...); err != nil {
		return nil, unavailable(err)
	}
	return out, db.readRows(ctx, byID, ids, mint, upto, nil)
}

// readRows reads what the database holds of the series in [mint, upto] into them, if holds does, see chunks.Store.Read. It sorts ids.
func (db *DB) readRows(ctx context.Context, byID map[uint64]*selected, ids []uint64, mint, upto int64, holds func(version int64) bool) error {
	if len(ids) == 0 {
		return nil
	}
	share := shareOf(ctx)
	var firsts slab[[1]chunks.Row] // most series have one
	err := db.chunks.Read(ctx, ids, mint, upto, holds, func(r chunks.Row) error {
		s := byID[r.SeriesID]
		if s.rows == nil {
			s.rows = firsts.next()[:0]
		}
		s.rows = append(s.rows, r)
		return share.row(&r)
	})
	var bad *chunks.RowError
	switch {
	case err == nil, errors.Is(err, chunks.ErrStale):
		return err
	case errors.As(err, &bad): // a whole bundle: its series cannot be told, but they are all of one metric
		return fmt.Errorf("%w; it belongs to the metric %s", err, db.catalogue.MetricName(bad.Row.SeriesID))
	}
	return unavailable(err)
}

// load decodes and merges all samples of the series into set.
func (s *selected) load(set *series.Set) error {
	mint := s.mint
	if s.hasHistograms() {
		// Whether a counter was reset shows only against the sample before, so that one is wanted too.
		mint = s.from
	}
	var few [4]chunks.Clipped
	rows := few[:0]
	for i := range s.rows {
		rows = chunks.AppendWithout(rows, chunks.Clipped{Row: s.rows[i], Mint: mint, Maxt: min(s.maxt, s.cover-1)}, s.erased)
	}
	for _, r := range s.view.Rows {
		if r.End >= s.cover {
			rows = chunks.AppendWithout(rows, chunks.Clipped{Row: chunkRow(s.id, r), Mint: max(mint, s.cover), Maxt: s.maxt}, s.erased)
		}
	}
	err := chunks.Load(set, rows, s.more()...)
	if err != nil {
		return s.badRow(err)
	}
	if len(set.Histograms) > 0 {
		set.Rehint()
		set.DropBefore(s.mint)
	}
	return nil
}

// more returns what of the series was not flushed yet.
func (s *selected) more() (more []series.Run) {
	if n := len(s.view.Samples); n > 0 {
		run := series.Run{Version: math.MaxInt64, T: make([]int64, n), V: make([]float64, n)}
		if s.view.ST != nil {
			run.ST = make([]int64, n)
		}
		for i, x := range s.view.Samples {
			run.T[i], run.V[i] = x.T, x.V
			if run.ST != nil {
				run.ST[i] = s.view.ST[x.T]
			}
		}
		more = append(more, run)
	}
	if len(s.view.Histograms) > 0 {
		more = append(more, series.Run{Version: math.MaxInt64, Histograms: s.view.Histograms})
	}
	return more
}

// badRow reports the row that an error of load is about.
func (s *selected) badRow(err error) error {
	var bad *chunks.RowError
	if errors.As(err, &bad) {
		s.db.corrupt(bad.Row, bad.Err)
		return fmt.Errorf("%w; it belongs to %s", err, s.labels)
	}
	return err
}

func (s *selected) hasHistograms() bool {
	for i := range s.rows {
		if s.rows[i].Encoding != codec.EncodingFloat {
			return true
		}
	}
	return len(s.view.Histograms) > 0 ||
		slices.ContainsFunc(s.view.Rows, func(r head.Row) bool { return r.Encoding != codec.EncodingFloat })
}

// hasSample tells whether the series has a sample in [mint, maxt], decoding only where the bounds of rows do not tell.
func (s *selected) hasSample(mint, maxt int64) bool {
	inside := func(start, end int64) bool { return start >= mint && start <= maxt || end >= mint && end <= maxt }
	for _, r := range s.rows {
		if len(s.erased) == 0 && inside(r.Start, r.End) {
			return true
		}
	}
	for _, r := range s.view.Rows {
		if len(s.erased) == 0 && inside(r.Start, r.End) {
			return true
		}
	}
	if len(s.view.Samples) > 0 || len(s.view.Histograms) > 0 {
		return true
	}
	var set series.Set
	return s.load(&set) != nil || len(set.T) > 0 || len(set.Histograms) > 0
}

// Labels implements storage.Series.
func (s *selected) Labels() labels.Labels { return s.labels }

// Iterator implements storage.Series. It decodes into the memory of it, if it is one of ours.
func (s *selected) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	i, ok := it.(*iterator)
	if !ok {
		i = &iterator{}
	}
	i.reset()
	if i.err = s.load(&i.set); i.err == nil {
		i.err = s.share.decoded(i)
	}
	return i
}

// seriesSet implements storage.SeriesSet.
type seriesSet struct {
	done   chan struct{} // closed once the next two are set
	series []*selected
	err    error
	at     int
}

func (s *seriesSet) Next() bool {
	<-s.done
	s.at++
	return s.at < len(s.series)
}

func (s *seriesSet) Err() error {
	<-s.done
	return s.err
}

func (s *seriesSet) At() promstorage.Series          { return s.series[s.at] }
func (*seriesSet) Warnings() annotations.Annotations { return nil }
