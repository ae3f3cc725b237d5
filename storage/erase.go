package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/chunks"
	"github.com/promkeep/promkeep/storage/head"
)

// A deletion flushes what it may concern, and notes for its series that samples of flushes up to that one do not count in its range
// of time. So it takes its place in the order of acceptance, and what is in the log is never concerned. Readers and merges
// leave out what is noted; in the background the rows are written again without it, and then the note goes.

const (
	// maxTombstones bounds the notes that wait for their rows to be rewritten, and so the memory they take.
	maxTombstones = 1_000_000

	seriesBits = 37 // of a series ID, below its metric
)

// erasures is what is erased, by series; under the ID of a metric, with a sequence of 0, what is erased of all its series. It is not
// changed once made.
type erasures map[uint64][]chunks.Span

// of returns what is erased of a series.
func (e erasures) of(id uint64) []chunks.Span {
	if len(e) == 0 {
		return nil
	}
	one, all := e[id], e[id>>seriesBits<<seriesBits]
	if len(all) == 0 {
		return one
	}
	return slices.Concat(one, all)
}

// Delete erases the samples in [mint, maxt] (ms) of the series of the context's tenant that match one of the sets of matchers. Everything
// that was acknowledged before is erased when it returns, what is accepted later counts.
func (db *DB) Delete(ctx context.Context, mint, maxt int64, sets ...[]*labels.Matcher) error {
	if mint > maxt {
		return nil
	}
	tenant, ok, err := db.catalogue.LookupTenant(ctx, tenantOf(ctx))
	if err != nil {
		return unavailable(err)
	}
	if !ok {
		return nil
	}
	db.flushMu.Lock()
	defer db.flushMu.Unlock()
	if err := db.reloadErased(ctx); err != nil {
		return unavailable(err)
	}
	keys := map[uint64]struct{}{}
	unflushed := false
	for _, ms := range sets {
		more, err := db.concerned(ctx, tenant, mint, maxt, ms, keys)
		if err != nil {
			return err
		}
		unflushed = unflushed || more
	}
	if len(keys) == 0 {
		return nil
	}
	if n := db.tombstones.Load() + int64(len(keys)); n > maxTombstones {
		return overloaded(fmt.Sprintf("%d series wait to be taken out of the rows of earlier deletions; try again later, or delete by metric name alone", db.tombstones.Load()))
	}
	if unflushed {
		if err := db.flush(ctx); err != nil {
			return err
		}
	}
	ids := make([]int64, 0, len(keys))
	for id := range keys {
		ids = append(ids, int64(id))
	}
	texts := make([]string, len(sets))
	for i, ms := range sets {
		texts[i] = selector(ms)
	}
	db.staleErased = true // until it is known whether this was committed
	err = pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		version, err := chunks.Fence(ctx, tx, db.log.Epoch())
		if err != nil {
			return err
		}
		var id int64
		if err := tx.QueryRow(ctx, schema.DeletionInsert, mint, maxt, version, strings.Join(texts, " or ")).Scan(&id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, schema.DeletionSeries, id, ids)
		return err
	})
	if err == nil {
		err = db.reloadErased(ctx)
	}
	if err != nil {
		return unavailable(err)
	}
	db.cfg.Logger.Info("deleted", "tenant", tenantOf(ctx), "matchers", strings.Join(texts, " or "), "mint", mint, "maxt", maxt, "series", len(ids))
	return nil
}

func selector(ms []*labels.Matcher) string {
	parts := make([]string, len(ms))
	for i, m := range ms {
		parts[i] = m.String()
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// concerned adds the series that match, or metrics where the matchers are about the name alone, to keys, and tells whether some in memory
// has unflushed samples in the range.
func (db *DB) concerned(ctx context.Context, tenant int32, mint, maxt int64, ms []*labels.Matcher, keys map[uint64]struct{}) (unflushed bool, err error) {
	inHead, err := db.head.Tenant(tenant).Select(ctx, ms...)
	if err != nil {
		return false, err
	}
	add := func(id uint64) { keys[id] = struct{}{} }
	if !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return m.Name != model.MetricNameLabel }) {
		add = func(id uint64) { keys[id>>seriesBits<<seriesBits] = struct{}{} }
	}
	for _, s := range inHead {
		add(s.ID)
		unflushed = unflushed || s.Unflushed(mint, maxt)
	}
	err = db.catalogue.Select(ctx, tenant, mint, maxt, nil, func(s catalogue.Series) error { add(s.ID); return nil }, ms...)
	if err != nil {
		return false, unavailable(err)
	}
	return unflushed, nil
}

// reloadErased brings what memory knows to be erased up to the database, if it may not be. The caller holds flushMu.
func (db *DB) reloadErased(ctx context.Context) error {
	if !db.staleErased {
		return nil
	}
	all, n, err := loadErased(ctx, db.pool)
	if err != nil {
		return err
	}
	db.erased.Store(&all)
	db.tombstones.Store(n)
	db.staleErased = false
	return nil
}

// loadErased reads what is erased, and how many tombstones that are.
func loadErased(ctx context.Context, pool *pgxpool.Pool) (all erasures, n int64, err error) {
	rows, err := pool.Query(ctx, schema.Tombstones)
	if err != nil {
		return nil, 0, err
	}
	all = erasures{}
	var (
		id   int64
		span chunks.Span
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &span.Mint, &span.Maxt, &span.Version}, func() error {
		all[uint64(id)] = append(all[uint64(id)], span)
		n++
		return nil
	})
	return all, n, err
}

// erasedNow returns what is erased, as of now.
func (db *DB) erasedNow() erasures {
	if e := db.erased.Load(); e != nil {
		return *e
	}
	return nil
}

// CleanTombstones takes what was deleted out of the rows, now.
func (db *DB) CleanTombstones(ctx context.Context) error {
	db.pace.hurry.Add(1)
	defer db.pace.hurry.Add(-1)
	db.workMu.Lock()
	defer db.workMu.Unlock()
	db.flushMu.Lock()
	defer db.flushMu.Unlock()
	db.pace.begin()
	return db.eraseDeleted(ctx)
}

// pause follows a step of background work: others may have flushMu, a flush or a deletion, and the work rests.
func (db *DB) pause() {
	db.flushMu.Unlock()
	db.pace.rest()
	db.flushMu.Lock()
	db.pace.begin()
}

type deletion struct {
	id         int64
	mint, maxt int64
	version    int32
}

// eraseDeleted rewrites the rows that hold what was deleted, and forgets the deletions. The caller holds flushMu.
func (db *DB) eraseDeleted(ctx context.Context) error {
	if err := db.reloadErased(ctx); err != nil {
		return err
	}
	if db.tombstones.Load() == 0 {
		return nil
	}
	rows, err := db.pool.Query(ctx, schema.Deletions)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d deletion, err error) {
		err = row.Scan(&d.id, &d.mint, &d.maxt, &d.version)
		return d, err
	})
	if err != nil {
		return err
	}
	for _, d := range all {
		if err := db.eraseDeletion(ctx, d); err != nil {
			db.metrics.eraseFailures.Inc()
			return fmt.Errorf("taking out what deletion %d erased: %w", d.id, err)
		}
	}
	return nil
}

func (db *DB) eraseDeletion(ctx context.Context, d deletion) error {
	began := time.Now()
	rows, err := db.pool.Query(ctx, schema.DeletionIDs, d.id)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, schema.RowToID)
	if err != nil {
		return err
	}
	span := []chunks.Span{{Mint: d.mint, Maxt: d.maxt, Version: d.version}}
	e := chunks.Eraser{IDs: ids, Mint: d.mint, Maxt: d.maxt, Spans: span}
	done, err := db.eraseEverywhere(ctx, e)
	if err != nil {
		return err
	}
	// The rows in memory too, before the note that keeps readers from what they hold goes.
	for _, id := range ids {
		if s := db.head.ByID(id); s != nil {
			if err := db.eraseCached(s, span); err != nil {
				return err
			}
		}
	}
	db.staleErased = true
	err = pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		if _, err := chunks.Fence(ctx, tx, db.log.Epoch()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, schema.DeletionDone, d.id)
		return err
	})
	if err != nil {
		return err
	}
	if err := db.reloadErased(ctx); err != nil {
		return err
	}
	db.cfg.Logger.Info("took out of the rows what was deleted", "deletion", d.id, "rows", done.Rows, "samples", done.Samples, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// eraseEverywhere rewrites parts and days. What moves from a part to a day meanwhile is left out by the merge.
func (db *DB) eraseEverywhere(ctx context.Context, e chunks.Eraser) (done chunks.Erased, err error) {
	parts, err := db.chunks.Parts(ctx)
	if err != nil {
		return done, err
	}
	for _, part := range parts {
		n, err := db.chunks.ErasePart(ctx, db.log.Epoch(), part, e, db.pause)
		db.countErased(n, &done)
		if err != nil {
			return done, err
		}
	}
	days, err := db.chunks.Days(ctx)
	if err != nil {
		return done, err
	}
	for _, day := range days {
		if day > e.Maxt || day+chunks.Day <= e.Mint {
			continue
		}
		if err := db.eraseDay(ctx, day, e, &done); err != nil {
			return done, err
		}
	}
	return done, nil
}

// eraseDay rewrites a day.
func (db *DB) eraseDay(ctx context.Context, day int64, e chunks.Eraser, sum *chunks.Erased) error {
	n, err := db.chunks.EraseDay(ctx, db.log.Epoch(), day, e, db.pause)
	db.countErased(n, sum)
	if err != nil || n.Rows == 0 {
		return err
	}
	return db.aside(func() error { return db.chunks.Recompress(ctx, day) })
}

func (db *DB) countErased(n chunks.Erased, sum *chunks.Erased) {
	sum.Rows += n.Rows
	sum.Samples += n.Samples
	db.metrics.erasedRows.Add(float64(n.Rows))
	db.metrics.erasedSamples.Add(float64(n.Samples))
}

// eraseCached rewrites the flushed rows of a series in memory.
func (db *DB) eraseCached(s *head.Series, erased []chunks.Span) error {
	return db.head.Rewrite(s, func(rows []head.Row) ([]head.Row, error) {
		out := make([]head.Row, 0, len(rows))
		for _, r := range rows {
			left, err := db.chunks.Without(chunkRow(s.ID, r), erased, nil)
			if err != nil {
				return nil, err
			}
			for _, l := range left {
				out = append(out, headRow(l))
			}
		}
		return out, nil
	})
}

func chunkRow(id uint64, r head.Row) chunks.Row {
	return chunks.Row{SeriesID: id, Start: r.Start, End: r.End, N: r.N, Version: r.Version, Encoding: r.Encoding, Data: r.Data}
}

// clip adds to the series what is erased of them, as of before and after they were read. What was rewritten meanwhile is erased in one
// of these.
func clip(all []*selected, before, after *erasures) {
	sets := []*erasures{before, after}
	if before == after {
		sets = sets[:1]
	}
	for _, e := range sets {
		if e == nil || len(*e) == 0 {
			continue
		}
		for _, s := range all {
			s.erased = append(s.erased, e.of(s.id)...)
		}
	}
}
