package chunks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/codec"
)

// The widths of time windows in ms. A flushed row lies within a Window, a merged one within a Day.
const (
	Window = 2 * 3600_000
	Day    = 24 * 3600_000
)

// Row is a packed row of one series.
type Row struct {
	SeriesID   uint64
	Start, End int64 // ms, first and last sample
	N          int32 // samples
	Version    int32 // of the flush; of two rows with the same timestamp the one of the higher version counts
	Encoding   codec.Encoding
	Data       []byte
	Times      *Times // the timestamps, if Data has none
}

// ErrFenced means that another leader has taken over: nothing was changed.
var ErrFenced = errors.New("another promkeep leads this database now")

// Store is the packed rows of a database. Flush, Merge and Retain are called by the leader, one at a time; Read by anyone.
type Store struct {
	pool   *pgxpool.Pool
	reads  *pgxpool.Pool // for queries, so that they cannot take the connections of flush and merge
	seam   seam
	logger *slog.Logger
	steps  steps // of the leader's merges

	known knownTimes

	imports []imported // in order of version; merges, of which there is one at a time, look there

	// LateAfter is how long after the end of a day its rows of level 1 go on being gathered before they are merged.
	LateAfter time.Duration
	// OnCorrupt is told of rows that cannot be decoded. A merge leaves them out of its result and keeps their part.
	OnCorrupt func(Row, error)
	// Erased, if not nil, returns what is erased of a series. Merges leave it out. It does not change while a step of a merge runs.
	Erased func(id uint64) []Span
}

// New returns the store of a migrated database; queries use the pool reads.
func New(pool, reads *pgxpool.Pool, st schema.Status, logger *slog.Logger) *Store {
	s := &Store{pool: pool, reads: reads, logger: logger, LateAfter: 3 * time.Hour, OnCorrupt: func(Row, error) {}}
	switch {
	case st.Layout == schema.LayoutTimescaleDB:
		s.seam = timescale{pool: pool, columnstore: st.TimescaleDB == schema.EditionCommunity}
	default:
		s.seam = plain{pool: pool}
	}
	return s
}

// floor returns the beginning of the window of the width that t lies in.
func floor(t, width int64) int64 {
	w := t / width
	if t%width < 0 {
		w--
	}
	return w * width
}

// Fence takes the leader's row until the transaction ends, and returns the number of the last flush.
func Fence(ctx context.Context, tx pgx.Tx, epoch int64) (version int32, err error) {
	err = tx.QueryRow(ctx, schema.LeaderFence, epoch).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, ErrFenced
	}
	return version, err
}

// Generation returns the part that rows flushed now go to, which it creates if need be, within the transaction of the
// flush and behind its Fence: so no part is sealed while rows are on their way to it.
func Generation(ctx context.Context, tx pgx.Tx, now time.Time) (part int32, err error) {
	return openPart(ctx, tx, 0, floor(now.UnixMilli(), Window))
}

// openPart returns the open part of a level and window, which it creates if need be.
func openPart(ctx context.Context, tx pgx.Tx, level int16, window int64) (part int32, err error) {
	err = tx.QueryRow(ctx, schema.PartOpen, level, window).Scan(&part)
	if !errors.Is(err, pgx.ErrNoRows) {
		return part, err
	}
	if err := tx.QueryRow(ctx, schema.PartInsert, level, window).Scan(&part); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, schema.Expand(schema.PartCreate, "part", int64(part))); err != nil {
		return 0, fmt.Errorf("creating part %d: %w", part, err)
	}
	return part, nil
}

// Seal closes the parts that no more rows should go to: generations before the present one, and gathered days that are
// over for long enough.
func (s *Store) Seal(ctx context.Context, epoch int64, now time.Time) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := Fence(ctx, tx, epoch); err != nil {
			return err
		}
		ms := now.UnixMilli()
		if _, err := tx.Exec(ctx, schema.PartSeal, int16(0), floor(ms, Window), 0.0); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, schema.PartSeal, int16(1), floor(ms-s.LateAfter.Milliseconds(), Day), s.LateAfter.Seconds())
		return err
	})
}

// ErrStale means that what was taken for true before a Read does not hold in its snapshot. Nothing was read.
var ErrStale = errors.New("what was remembered of the catalogue is not true any more")

// Read calls fn for each row of the series that has samples in [mint, maxt] (ms), in no order; Data is fn's to keep, and can be decoded when
// Read has returned. All rows come from one snapshot. holds, unless it is nil, is told before the version of the catalogue in that snapshot, and ErrStale
// returned if it returns false. Read sorts ids. A *RowError tells of a bundle that cannot be read.
func (s *Store) Read(ctx context.Context, ids []uint64, mint, maxt int64, holds func(version int64) bool, fn func(Row) error) error {
	slices.Sort(ids)
	signed := schema.SignedIDs(ids)
	var first, last []int64 // by metric, or by several metrics that have nothing between them: of these the rows lie together
	for i, id := range ids {
		if i == 0 || id>>metricShift > ids[i-1]>>metricShift+1 {
			first, last = append(first, signed[i]), append(last, signed[i])
		}
		last[len(last)-1] = signed[i]
	}
	conn, err := s.reads.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	// All in one round trip, in which the server takes each statement up when the one before is done.
	var (
		batch  pgx.Batch
		handle []func(pgx.BatchResults) error // one for each statement
		opened members
		wanted = wantedTimes{}
	)
	queue := func(f func(pgx.BatchResults) error, query string, args ...any) {
		batch.Queue(query, args...)
		handle = append(handle, f)
	}
	done := func(results pgx.BatchResults) error {
		_, err := results.Exec()
		return err
	}
	rows := func(results pgx.BatchResults) error {
		rows, err := results.Query()
		if err != nil {
			return err
		}
		return each(rows, func(r Row, above int64) error {
			found, err := opened.of(r)
			if err != nil {
				return s.damaged(err)
			}
			members := len(found)
			found = slices.DeleteFunc(found, func(m Row) bool {
				return m.End < mint || m.Start > maxt || int64(m.SeriesID) <= above
			})
			found = among(found, ids)
			bytes := 0
			for i := range found {
				bytes += len(found[i].Data)
			}
			var data []byte // of what is wanted, in one piece
			if len(found) == members {
				data = append(data, r.Data[len(r.Data)-bytes:]...) // behind which there is nothing
			} else {
				data = make([]byte, 0, bytes)
				for i := range found {
					data = append(data, found[i].Data...)
				}
			}
			for _, m := range found {
				n := len(m.Data)
				m.Data, data = data[:n:n], data[n:]
				if m.Times = s.known.find(m.Times, wanted); m.Times != nil && m.Times.row != nil && !m.Times.own {
					m.Times.row, m.Times.own = slices.Clone(m.Times.row), true
				}
				if err := fn(m); err != nil {
					return err
				}
			}
			return nil
		})
	}
	queue(done, schema.ReadBegin)
	queue(done, schema.ReadLock)
	if holds != nil {
		queue(func(results pgx.BatchResults) error {
			var version, retired int64
			if err := results.QueryRow().Scan(&version, &retired); err != nil {
				return err
			}
			if !holds(version) {
				return ErrStale
			}
			return nil
		}, schema.CatalogueState)
	}
	if len(first) == 1 {
		queue(rows, schema.ReadMetricChunk, signed, first[0]>>metricShift<<metricShift, first[0], last[0], floor(mint, Day), mint, maxt)
		queue(done, schema.ReadGeneric)
		queue(rows, schema.ReadMetricRecent, signed, first[0]>>metricShift<<metricShift, first[0], last[0], mint, maxt)
	} else {
		queue(rows, schema.ReadRows, signed, first, last, floor(mint, Day), mint, maxt)
	}
	queue(done, schema.ReadEnd)
	results := conn.SendBatch(ctx, &batch)
	defer results.Close() // before the connection goes back to the pool, which does not take it in a broken transaction
	for _, f := range handle {
		if err := f(results); err != nil {
			return err
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	return s.known.read(ctx, conn, wanted)
}

// ReadSince calls fn for each row that ends at or after t (ms), in no order; Data is fn's to keep. The rows have timestamps of their own.
func (s *Store) ReadSince(ctx context.Context, t int64, fn func(Row) error) error {
	rows, err := s.pool.Query(ctx, schema.ReadRecent, t, floor(t, Day))
	if err != nil {
		return err
	}
	var a arena
	wanted := wantedTimes{}
	var later []Row // their timestamps are wanted
	err = each(rows, func(r Row, above int64) error {
		return s.unbundle(r, func(m Row) (err error) {
			if m.End < t || int64(m.SeriesID) <= above {
				return nil
			}
			m.Times = s.known.find(m.Times, wanted)
			switch {
			case m.Times == nil:
				m.Data = a.copy(m.Data)
			case m.Times.row == nil:
				m.Data = a.copy(m.Data)
				later = append(later, m)
				return nil
			default:
				m, err = m.Alone()
			}
			if err != nil {
				return err
			}
			return fn(m)
		})
	})
	if err != nil {
		return err
	}
	if err := s.known.read(ctx, s.pool, wanted); err != nil {
		return err
	}
	for _, m := range later {
		if m, err = m.Alone(); err != nil {
			return err
		}
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

// among keeps those of the rows whose series are among the ids; both are in order.
func among(rows []Row, ids []uint64) []Row {
	out := rows[:0]
	for i := range rows {
		id := rows[i].SeriesID
		if len(ids) > 0 && ids[0] < id { // mostly it is the one behind it
			ids = ids[1:]
		}
		if len(ids) > 0 && ids[0] < id {
			n, _ := slices.BinarySearch(ids, id)
			ids = ids[n:]
		}
		if len(ids) > 0 && ids[0] == id {
			out = append(out, rows[i])
		}
	}
	return out
}

// unbundle calls fn for the packed rows of a row, and tells OnCorrupt of a bundle that cannot be read.
func (s *Store) unbundle(r Row, fn func(Row) error) error { return s.damaged(unbundle(r, fn)) }

// damaged tells OnCorrupt if the error is about a bundle, and returns it.
func (s *Store) damaged(err error) error {
	var bad *RowError
	if errors.As(err, &bad) {
		s.OnCorrupt(bad.Row, bad.Err)
	}
	return err
}

// each calls fn for each row of a table, and the series ID up to which its part does not count any more. The row's Data is valid until
// fn returns.
func each(rows pgx.Rows, fn func(r Row, above int64) error) error {
	defer rows.Close()
	for rows.Next() {
		r, above, err := decodeRow(rows.RawValues())
		if err != nil {
			return err
		}
		if err := fn(r, above); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Retain drops all day ranges that end at or before t (ms), and returns how many.
func (s *Store) Retain(ctx context.Context, t int64) (int, error) {
	// The timestamps of days that went before this call: a reader may still hold rows that refer to those of a day that goes now.
	days, err := s.seam.days(ctx)
	if err != nil {
		return 0, err
	}
	if len(days) > 0 {
		if _, err := s.pool.Exec(ctx, schema.TimesExpire, days[0]); err != nil {
			return 0, err
		}
	}
	return s.seam.dropBefore(ctx, floor(t, Day))
}

// Prepare creates the day ranges that will be needed next.
func (s *Store) Prepare(ctx context.Context, now time.Time) error {
	today := floor(now.UnixMilli(), Day)
	for day := today - Day; day <= today+2*Day; day += Day {
		if err := s.seam.ensureDay(ctx, day); err != nil {
			return err
		}
	}
	return nil
}

// Compress hands the day ranges that ended before t (ms) to the columnstore, where there is one, and returns how many.
func (s *Store) Compress(ctx context.Context, t int64) (int, error) {
	return s.seam.compressBefore(ctx, floor(t, Day))
}

// WindowEnd returns the end (ms, exclusive) of the window that t (ms) lies in.
func WindowEnd(t int64) int64 { return floor(t, Window) + Window }
