package storage

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/promkeep/promkeep/storage/catalogue"
)

// seriesDays is how many days of a series a stream holds at once, all its series together: some 100 MB of packed rows.
const seriesDays = 16384

// stream is a storage.SeriesSet, sorted by labels, that reads the samples of some series at a time, so that what it holds in memory
// does not grow with the answer. Each series is as of one moment, but not all are as of the same.
type stream struct {
	ctx        context.Context // with the share of the rows
	db         *DB
	mint, maxt int64
	portion    int // series at a time

	left    []listed
	current []*selected
	at      int
	err     error
}

// listed is a series that is yet to be read.
type listed struct {
	id     uint64
	labels labels.Labels
}

// stream returns the series that match.
func (q *querier) stream(ctx context.Context, mint, maxt int64, ms []*labels.Matcher) (promstorage.SeriesSet, error) {
	left, err := q.db.list(q.shares.of(ctx), mint, maxt, ms)
	if err != nil {
		return nil, err
	}
	// Of what may hold samples at all; the first and the last day are parts.
	days := (min(maxt, q.db.youngest.Load())-max(mint, left.from))/(24*time.Hour).Milliseconds() + 2
	return &stream{
		ctx: q.shares.of(oneAtATime(ctx)), db: q.db, mint: mint, maxt: maxt, at: -1,
		portion: int(max(q.db.streamDays/max(days, 1), 1)), left: left.series,
	}, nil
}

type listing struct {
	series []listed
	from   int64 // ms, when the first of them began or before
}

// list finds the series that may have samples in [mint, maxt], sorted by labels.
func (db *DB) list(ctx context.Context, mint, maxt int64, ms []*labels.Matcher) (out listing, err error) {
	out.from = maxt
	tenant, ok, err := db.catalogue.LookupTenant(ctx, tenantOf(ctx))
	if err != nil {
		return out, unavailable(err)
	}
	if !ok {
		return out, nil
	}
	inHead, err := db.head.Tenant(tenant).Select(ctx, ms...)
	if err != nil {
		return out, err
	}
	share := shareOf(ctx)
	seen := make(map[uint64]struct{}, len(inHead))
	add := func(id uint64, l labels.Labels, started, labelBytes int64) error {
		if _, twice := seen[id]; twice {
			return nil
		}
		seen[id] = struct{}{}
		out.series = append(out.series, listed{id, l})
		out.from = min(out.from, started)
		return share.take(64 + labelBytes)
	}
	hour := time.Hour.Milliseconds()
	for _, s := range inHead {
		if err := add(s.ID, s.Labels, int64(s.Started())*hour, 0); err != nil {
			return out, err
		}
	}
	if cover := db.head.CoverFrom(); mint < cover {
		err := db.catalogue.Select(ctx, tenant, mint, min(maxt, cover-1), func() []catalogue.Series { return known(inHead) }, func(c catalogue.Series) error {
			return add(c.ID, c.Labels, int64(c.Started)*hour, int64(c.Labels.ByteSize()))
		}, ms...)
		if err != nil {
			return out, unavailable(err)
		}
	}
	slices.SortFunc(out.series, func(a, b listed) int { return labels.Compare(a.labels, b.labels) })
	return out, nil
}

// Next implements storage.SeriesSet.
func (s *stream) Next() bool {
	if s.at++; s.at < len(s.current) {
		return true
	}
	for s.err == nil && len(s.left) > 0 {
		some := s.left[:min(s.portion, len(s.left))]
		s.left = s.left[len(some):]
		s.current, s.at = nil, 0
		if s.current, s.err = s.db.consistent(s.ctx, func() ([]*selected, error) { return s.read(some) }); len(s.current) > 0 {
			return s.err == nil
		}
	}
	s.current = nil
	return false
}

// read takes what is in memory of some series, and then, in this order, the rest from the database; see collectOnce.
func (s *stream) read(some []listed) ([]*selected, error) {
	out, share := make([]*selected, 0, len(some)), shareOf(s.ctx)
	byID := make(map[uint64]*selected, len(some))
	ids := make([]uint64, 0, len(some))
	var made slab[selected]
	for _, l := range some {
		one := s.db.selectSeries(s.ctx, &made, l.id, l.labels, s.mint, s.maxt)
		if inHead := s.db.head.ByID(l.id); inHead != nil {
			one.view = inHead.View(one.mint, s.maxt)
		}
		out, byID[l.id], ids = append(out, one), one, append(ids, l.id)
		if err := share.series(&one.view, 0); err != nil {
			return nil, err
		}
	}
	cover := s.db.head.CoverFrom()
	for _, one := range out {
		one.cover = cover
	}
	if s.mint < cover {
		if err := s.db.readRows(s.ctx, byID, ids, s.mint, min(s.maxt, cover-1), nil); err != nil {
			return nil, err
		}
	}
	return withSamples(out), nil
}

// At implements storage.SeriesSet.
func (s *stream) At() promstorage.Series { return s.current[s.at] }

// Err implements storage.SeriesSet.
func (s *stream) Err() error { return s.err }

// Warnings implements storage.SeriesSet.
func (*stream) Warnings() annotations.Annotations { return nil }
