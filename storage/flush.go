package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/chunks"
	"github.com/promkeep/promkeep/storage/head"
	"github.com/promkeep/promkeep/storage/samplelog"
	"github.com/promkeep/promkeep/storage/series"
)

// Flush writes all samples that are in the log as packed rows, and drops them from the log, in one transaction.
func (db *DB) Flush(ctx context.Context) error {
	db.flushMu.Lock()
	defer db.flushMu.Unlock()
	return db.flush(ctx)
}

// flush is Flush for who holds flushMu.
func (db *DB) flush(ctx context.Context) error {
	began := time.Now()
	if err := db.log.Empty(ctx, db.pool); err != nil {
		db.cfg.Logger.Warn("what is flushed of the log takes room until the next flush", "err", err)
	}
	var line samplelog.Line
	err := db.log.Barrier(func(l samplelog.Line) {
		db.head.Advance()
		db.exemplars.advance()
		line = l
	})
	if err != nil {
		return logError(err)
	}
	f := flush{db: db, line: line}
	err = f.run(ctx)
	if err != nil && f.version > 0 {
		// The commit may have been carried out although its answer was lost.
		committed, checkErr := db.flushed(ctx, f.version)
		if checkErr != nil {
			err = fmt.Errorf("%w; and whether it was committed cannot be told: %w", err, checkErr)
		} else if committed {
			err = nil
		}
	}
	if f.version > 0 {
		db.head.Flushed(f.version, err == nil)
		db.exemplars.flushed(err == nil)
	}
	db.metrics.flush(err, f.writer, time.Since(began))
	if err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	if err := db.log.Dropped(ctx, db.pool, line); err != nil {
		db.cfg.Logger.Warn("what is flushed of the log takes room until after the next flush", "err", err)
	}
	for s, hour := range f.started {
		s.SetStarted(hour)
	}
	return nil
}

// flush is one flush.
type flush struct {
	db      *DB
	line    samplelog.Line
	version int32
	started map[*head.Series]int32 // series that got samples older than the catalogue knew
	writer  *chunks.Writer

	set    series.Set   // of one series and window
	packed []chunks.Row // of it
	rows   []head.Row   // of one series
}

func (f *flush) run(ctx context.Context) error {
	return pgx.BeginFunc(ctx, f.db.pool, func(tx pgx.Tx) error {
		last, err := chunks.Fence(ctx, tx, f.db.log.Epoch())
		if err != nil {
			return err
		}
		part, err := chunks.Generation(ctx, tx, f.db.cfg.Now())
		if err != nil {
			return err
		}
		f.version = last + 1
		f.writer, err = chunks.WriteRecent(ctx, tx, part, func(w *chunks.Writer) error {
			return f.db.head.Flushing(func(s *head.Series, samples []head.Sample, st map[int64]int64, hs []series.Histogram) ([]head.Row, error) {
				return f.pack(w, part, s, samples, st, hs)
			})
		})
		if err != nil {
			return err
		}
		if len(f.started) > 0 {
			ids, hours := make([]int64, 0, len(f.started)), make([]int32, 0, len(f.started))
			for s, hour := range f.started {
				ids, hours = append(ids, int64(s.ID)), append(hours, hour)
			}
			if _, err := tx.Exec(ctx, schema.SeriesStarted, ids, hours); err != nil {
				return err
			}
		}
		if err := f.db.exemplars.write(ctx, tx, f.db.MinTime()); err != nil {
			return err
		}
		if err := f.line.Drop(ctx, tx); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, schema.FlushVersion, f.version, f.db.youngest.Load())
		return err
	})
}

// pack writes the samples of one series, a row for each window that they lie in.
func (f *flush) pack(w *chunks.Writer, part int32, s *head.Series, samples []head.Sample, st map[int64]int64, hs []series.Histogram) ([]head.Row, error) {
	oldest := int64(1<<63 - 1)
	if len(samples) > 0 {
		oldest = samples[0].T
	}
	if len(hs) > 0 {
		oldest = min(oldest, hs[0].T)
	}
	if hour := catalogue.Hour(oldest); hour < s.Started() {
		if f.started == nil {
			f.started = map[*head.Series]int32{}
		}
		f.started[s] = hour
	}
	out, set := f.rows[:0], &f.set
	for len(samples) > 0 || len(hs) > 0 {
		// The next window is that of the older of what comes next.
		next := int64(1<<63 - 1)
		if len(samples) > 0 {
			next = samples[0].T
		}
		if len(hs) > 0 {
			next = min(next, hs[0].T)
		}
		end := chunks.WindowEnd(next)
		set.Reset()
		for len(samples) > 0 && samples[0].T < end {
			set.T = append(set.T, samples[0].T)
			set.V = append(set.V, samples[0].V)
			if st != nil {
				set.ST = append(set.ST, st[samples[0].T])
			}
			samples = samples[1:]
		}
		for len(hs) > 0 && hs[0].T < end {
			set.Histograms = append(set.Histograms, hs[0])
			hs = hs[1:]
		}
		rows, err := chunks.AppendEncoded(f.packed[:0], s.ID, f.version, set)
		if err != nil {
			return nil, err
		}
		f.packed = rows
		for _, r := range rows {
			if err := w.Write(part, r); err != nil {
				return nil, err
			}
			out = append(out, headRow(r))
		}
	}
	f.rows = out
	return out, nil
}

// flushed tells whether the flush with the version was committed, asking until the database answers.
func (db *DB) flushed(ctx context.Context, version int32) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		last, err := db.lastFlush(ctx)
		if err == nil {
			return last >= version, nil
		}
		select {
		case <-ctx.Done():
			return false, err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (db *DB) lastFlush(ctx context.Context) (version int32, err error) {
	err = db.pool.QueryRow(ctx, schema.LastFlush).Scan(&version)
	return version, err
}
