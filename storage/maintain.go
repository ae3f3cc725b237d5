package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/chunks"
	"github.com/promkeep/promkeep/storage/head"
)

// keepFlushing flushes, and looks at what else must not wait for other work, until ctx ends.
func (db *DB) keepFlushing(ctx context.Context) {
	defer db.background.Done()
	flush := time.NewTicker(db.cfg.FlushInterval)
	defer flush.Stop()
	imports := time.NewTicker(importLook)
	defer imports.Stop()
	watch := time.NewTicker(db.workInterval())
	defer watch.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-flush.C:
			err = db.Flush(ctx)
		case <-db.flushNow:
			err = db.Flush(ctx)
		case <-imports.C:
			err = db.lookForImports(ctx)
		case <-watch.C:
			err = db.watch(ctx)
		}
		db.failed(ctx, err)
	}
}

// maintain merges, compresses, drops and retires, in steps with rests between them, until ctx ends.
func (db *DB) maintain(ctx context.Context) {
	defer db.background.Done()
	work := time.NewTicker(db.workInterval())
	defer work.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-work.C:
			db.failed(ctx, db.round(ctx))
		}
	}
}

func (db *DB) workInterval() time.Duration { return min(db.cfg.FlushInterval, time.Minute) }

// failed logs an error of background work.
func (db *DB) failed(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil && db.log.Err() == nil { // else the log has said already that the database is away
		db.cfg.Logger.Error("background work failed; it will be tried again", "err", err)
	}
}

// requestFlush asks for a flush before its time.
func (db *DB) requestFlush() {
	select {
	case db.flushNow <- struct{}{}:
	default:
	}
}

// Maintain does all background work that is due but the flush, without rest: it evicts, merges, compresses and drops. Then it measures what is left.
func (db *DB) Maintain(ctx context.Context) error {
	db.pace.hurry.Add(1)
	defer db.pace.hurry.Add(-1)
	return errors.Join(db.round(ctx), db.watch(ctx))
}

// round does the background work that is due. Who holds workMu also holds flushMu, but for pauses.
func (db *DB) round(ctx context.Context) error {
	db.workMu.Lock()
	defer db.workMu.Unlock()
	db.flushMu.Lock()
	defer db.flushMu.Unlock()
	db.pace.begin()
	return db.maintenance(ctx)
}

// jobs are the kinds of background work beside the flush, in their order, for metrics.
var jobs = []string{"prepare", "merge", "drop", "delete", "compress", "retention", "rules", "size", "catalogue", "note"}

// maintenance does one job after the other. One that fails is tried again in the next round, and does not keep others from being done.
func (db *DB) maintenance(ctx context.Context) error {
	var errs []error
	ok := map[string]bool{}
	do := func(name string, job func(context.Context) error) {
		if ctx.Err() != nil || db.log.Err() != nil || errors.Is(errors.Join(errs...), chunks.ErrFenced) {
			return
		}
		began, rested := time.Now(), db.pace.rested
		err := job(ctx)
		busy := errors.Is(err, chunks.ErrBusy)
		db.metrics.job(name, time.Since(began)-(db.pace.rested-rested), err)
		if ok[name] = err == nil; err != nil && !busy {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		if busy && !db.busy[name] {
			db.cfg.Logger.Warn("background work waits for transactions that are still open; it will be tried again", "job", name, "err", err)
		}
		db.busy[name] = busy
	}
	now := db.cfg.Now()
	do("prepare", func(ctx context.Context) error { return db.prepare(ctx, now) })
	do("merge", db.merge)
	do("drop", func(ctx context.Context) error { return db.aside(func() error { return db.chunks.DropMerged(ctx) }) })
	do("delete", db.eraseDeleted)
	do("compress", func(ctx context.Context) error { return db.compress(ctx, now) })
	do("retention", db.retain)
	do("rules", db.retireRows)
	do("size", func(ctx context.Context) error { return db.retainSize(ctx, now) })
	if ok["retention"] {
		do("catalogue", db.retire)
	}
	do("note", db.note)
	return errors.Join(append(errs, ctx.Err())...)
}

// aside does work for which flushes and deletions need not wait. They may come in between.
func (db *DB) aside(work func() error) error {
	db.flushMu.Unlock()
	defer db.flushMu.Lock()
	return work()
}

// prepare does what takes little time, and what comes next needs.
func (db *DB) prepare(ctx context.Context, now time.Time) error {
	if err := db.followImports(ctx, true); err != nil {
		return err
	}
	if err := db.tidy(ctx, now); err != nil {
		return err
	}
	if err := db.chunks.Prepare(ctx, now); err != nil {
		return err
	}
	return db.chunks.Seal(ctx, db.log.Epoch(), now)
}

// note tells SQL what the retention has still to do. The caller holds workMu.
func (db *DB) note(ctx context.Context) error {
	for name, value := range map[string]int64{
		"kept_from_ms":           db.MinTime() / chunks.Day * chunks.Day, // days are dropped whole
		"retention_pending_days": db.retiring.Load(),
	} {
		if last, ok := db.noted[name]; ok && last == value {
			continue
		}
		if _, err := db.pool.Exec(ctx, schema.PutSetting, name, strconv.FormatInt(value, 10)); err != nil {
			return err
		}
		db.noted[name] = value
	}
	return nil
}

// compress hands the days that are over to the columnstore, where there is one.
func (db *DB) compress(ctx context.Context, now time.Time) error {
	return db.aside(func() error {
		compressed, err := db.chunks.Compress(ctx, now.Add(-db.chunks.LateAfter).UnixMilli())
		if compressed > 0 {
			db.cfg.Logger.Info("compressed days", "days", compressed)
		}
		return err
	})
}

// retain drops the days that are past the retention.
func (db *DB) retain(ctx context.Context) error {
	return db.aside(func() error {
		dropped, err := db.chunks.Retain(ctx, db.MinTime())
		if dropped > 0 {
			db.cfg.Logger.Info("dropped days past the retention", "days", dropped)
			db.metrics.daysDropped.Add(float64(dropped))
		}
		return err
	})
}

// retainSize measures what the store takes on disk, and drops the oldest days if it is too much; never one that is still
// being gathered.
func (db *DB) retainSize(ctx context.Context, now time.Time) error {
	limit := db.cfg.RetentionSize
	if limit <= 0 {
		limit = math.MaxInt64
	}
	var (
		dropped int
		bytes   int64
	)
	err := db.aside(func() (err error) {
		dropped, bytes, err = db.chunks.RetainSize(ctx, limit, now.Add(-db.chunks.LateAfter).UnixMilli())
		return err
	})
	db.metrics.daysDroppedForSize.Add(float64(dropped))
	if err != nil {
		return err
	}
	db.size.Store(bytes)
	if dropped > 0 {
		db.cfg.Logger.Info("dropped the oldest days, for the store was too large", "days", dropped, "limit_bytes", limit, "bytes", bytes)
	}
	if over := bytes > limit; over != db.oversize {
		db.oversize = over
		if over {
			db.cfg.Logger.Warn("the store is larger than --storage.retention.size, and no day is left that could be dropped",
				"limit_bytes", limit, "bytes", bytes)
		}
	}
	return nil
}

// mergeTime bounds one round of merges: while an import goes on there is always more to merge, and other work waits.
const mergeTime = 2 * time.Minute

// merge does steps until nothing is left to merge, or it has taken long enough.
func (db *DB) merge(ctx context.Context) error {
	if err := db.pool.QueryRow(ctx, schema.PartUnmerged).Scan(&db.pace.waiting); err != nil {
		return err
	}
	for until := time.Now().Add(min(mergeTime, db.cfg.FlushInterval)); ctx.Err() == nil && time.Now().Before(until); {
		began := time.Now()
		m, err := db.chunks.Merge(ctx, db.log.Epoch())
		if err != nil {
			if errors.Is(err, chunks.ErrFenced) {
				return err
			}
			db.metrics.mergeFailures.Inc()
			return err
		}
		if m.Done {
			return nil
		}
		db.metrics.merge(m, time.Since(began))
		db.pause()
	}
	return ctx.Err()
}

// tidy evicts what the cache holds too long or too much of, and lets go of series that have ended.
func (db *DB) tidy(ctx context.Context, now time.Time) error {
	db.boundCache(now.Add(-db.cfg.CacheWindow).UnixMilli())
	db.letGo(now)
	return db.end(ctx, now)
}

// letGo lets go of series that have ended; the catalogue is to be told of them, and of those that it could not be told the last time.
func (db *DB) letGo(now time.Time) {
	db.resolver.lifecycle.Lock()
	defer db.resolver.lifecycle.Unlock()
	db.unended = db.away(db.unended, now) // so that a series which came back and leaves again is not in it twice
	var leaving []uint64
	collected := db.head.Collect(func(s *head.Series) {
		leaving = append(leaving, s.ID)
		db.catalogue.Leaving(catalogue.Series{ID: s.ID, Tenant: s.Tenant(), Labels: s.Labels, Started: s.Started(), Ended: catalogue.Hour(db.lastSample(s.Last(), now))})
	})
	for _, id := range leaving {
		if db.head.ByID(id) != nil {
			db.catalogue.Stayed(id)
		}
	}
	db.unended = append(db.unended, collected...)
}

// endAtOnce bounds the series that are marked as ended in one transaction, which holds off the creation of others.
const endAtOnce = 2000

// end tells the catalogue of series that have left memory, some at a time. What it could not be told remains for the next time.
func (db *DB) end(ctx context.Context, now time.Time) error {
	for len(db.unended) > 0 {
		n := min(endAtOnce, len(db.unended))
		if err := db.endSome(ctx, slices.Clone(db.unended[:n]), now); err != nil {
			return err
		}
		if db.unended = db.unended[n:]; len(db.unended) > 0 {
			db.pause()
		}
	}
	db.unended = nil
	return nil
}

// endSome marks as ended those of the series that have not come back to memory since they left.
func (db *DB) endSome(ctx context.Context, ended []head.Ended, now time.Time) error {
	db.resolver.lifecycle.Lock()
	defer db.resolver.lifecycle.Unlock()
	ended = db.away(ended, now)
	if len(ended) == 0 {
		return nil
	}
	ids, last := make([]uint64, len(ended)), make([]int64, len(ended))
	for i, e := range ended {
		ids[i], last[i] = e.ID, db.lastSample(e.Last, now)
	}
	return db.catalogue.End(ctx, db.fence, ids, last)
}

// away returns, in place, those of the series that have not come back to memory. The catalogue did not know the end of one that has, so the
// head is told of its youngest sample here: else, should the series get late samples only, it would end before it.
func (db *DB) away(ended []head.Ended, now time.Time) []head.Ended {
	return slices.DeleteFunc(ended, func(e head.Ended) bool {
		s := db.head.ByID(e.ID)
		if s == nil {
			return false
		}
		s.Lived(db.lastSample(e.Last, now))
		db.catalogue.Stayed(e.ID)
		return true
	})
}

// lastSample is the time in ms of the youngest sample that a series can have had. If that is not known it was before now.
func (db *DB) lastSample(last int64, now time.Time) int64 {
	if last == math.MinInt64 {
		return now.UnixMilli()
	}
	return last
}

// fence makes a transaction fail if another process leads.
func (db *DB) fence(ctx context.Context, tx pgx.Tx) error {
	_, err := chunks.Fence(ctx, tx, db.log.Epoch())
	return err
}

// boundCache evicts rows that end before t (ms), and younger ones until the cache is within its bound.
func (db *DB) boundCache(t int64) {
	const step = 10 * 60_000
	db.head.Evict(t)
	for db.head.CachedBytes() > db.cfg.CacheBytes && t < db.cfg.Now().UnixMilli() {
		t += step
		db.head.Evict(t)
	}
}
