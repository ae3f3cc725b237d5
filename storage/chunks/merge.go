package chunks

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/series"
)

// A step of a merge reads about mergeBytes; the first step of a part reads firstRows rows of the table, to see how large they are.
const (
	mergeBytes = 6 << 20
	firstRows  = 64
	maxRows    = 50_000
)

// steps remembers how many rows of the table a step of a part should read, and keeps the memory of a step for the next: a step has many rows,
// which are larger than what is packed in them when they come from a flush.
type steps struct {
	part    int32
	limit   int
	in, out []Row
}

// lend gives out the memory, which give takes back. Steps come one after another.
func (s *steps) lend() (in, out []Row) {
	in, out = s.in, s.out
	s.in, s.out = nil, nil
	return in[:0], out[:0]
}

// give takes back the memory of a step, which nothing points into any more, and lets go of what it points to.
func (s *steps) give(in, out []Row) {
	if cap(in)+cap(out) > maxKept {
		return
	}
	clear(in)
	clear(out)
	s.in, s.out = in, out
}

// maxKept is how many rows are kept room for between steps.
const maxKept = 1 << 19

func (s *steps) of(part int32) int {
	if s.part != part || s.limit == 0 {
		s.part, s.limit = part, firstRows
	}
	return s.limit
}

func (s *steps) read(rows, bytes int) {
	if rows > 0 {
		s.limit = min(max(firstRows, mergeBytes/(bytes/rows+1)), 8*s.limit, maxRows)
	}
}

// Merged says what a step of a merge did.
type Merged struct {
	Rows, RowsOut, Samples, Bytes int64
	Done                          bool // nothing is left to merge
}

// Merge does one step: it moves the next series of the oldest sealed part to where they belong, in one transaction.
// A part that has been merged whole is left to DropMerged.
func (s *Store) Merge(ctx context.Context, epoch int64) (Merged, error) {
	var (
		part  int32
		level int16
	)
	err := s.pool.QueryRow(ctx, schema.PartSealed).Scan(&part, &level)
	if errors.Is(err, pgx.ErrNoRows) {
		s.steps.in, s.steps.out = nil, nil // the next merge may be hours away
		return Merged{Done: true}, nil
	}
	if err != nil {
		return Merged{}, err
	}
	return s.mergeStep(ctx, epoch, part, level)
}

func (s *Store) mergeStep(ctx context.Context, epoch int64, part int32, level int16) (done Merged, err error) {
	width := int64(Window)
	if level > 0 {
		width = Day
	}
	room, out := s.steps.lend()
	in, err := s.readPart(ctx, part, width, room)
	if err != nil {
		return done, err
	}
	defer func() { s.steps.give(in.rows, out) }()
	if err := s.loadImports(ctx); err != nil {
		return done, err
	}
	var times timesOf
	for rest := in.rows; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].SeriesID == rest[0].SeriesID {
			n++
		}
		merged, err := s.mergeSeries(rest[:n], width, &times)
		if err != nil {
			return done, err
		}
		out = append(out, merged...)
		rest = rest[n:]
	}
	var days []int64
	place := func(r Row) {
		if day := floor(r.Start, Day); !slices.Contains(days, day) {
			days = append(days, day)
		}
	}
	for _, r := range out {
		place(r)
	}
	for _, r := range in.broken {
		place(r.Row)
	}
	passed := int64(0) // packed rows in them
	for _, r := range in.whole {
		place(r.Row)
		passed += int64(r.members)
	}
	if err := s.room(ctx, epoch, level, days); err != nil {
		return done, err
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := Fence(ctx, tx, epoch); err != nil {
			return err
		}
		var found int64
		if err := tx.QueryRow(ctx, schema.PartUpto, part).Scan(&found); err != nil {
			return err
		}
		if found != in.from {
			return ErrFenced
		}
		parts := map[int64]int32{}
		sql := schema.CopyChunk
		if level == 0 {
			sql = schema.CopyRecentAny
			for _, day := range days {
				if parts[day], err = openPart(ctx, tx, 1, day); err != nil {
					return err
				}
			}
		}
		to := func(r Row) int32 {
			if level > 0 {
				return -1
			}
			return parts[floor(r.Start, Day)]
		}
		if level > 0 {
			if err := keepTimes(ctx, tx, out); err != nil {
				return err
			}
		}
		if len(out)+len(in.broken)+len(in.whole) > 0 {
			w, err := stream(ctx, tx, sql, func(w *Writer) error {
				whole := in.whole
				before := func(id uint64) error { // writes the bundles before the series
					for ; len(whole) > 0 && whole[0].SeriesID < id; whole = whole[1:] {
						if err := w.writeWhole(to(whole[0].Row), whole[0]); err != nil {
							return err
						}
					}
					return nil
				}
				for _, r := range out {
					if err := before(r.SeriesID); err != nil {
						return err
					}
					if err := w.Write(to(r), r); err != nil {
						return err
					}
				}
				if err := before(math.MaxUint64); err != nil {
					return err
				}
				for _, r := range in.broken {
					if err := w.writeRaw(to(r.Row), r.Row, r.last); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			done = Merged{Rows: int64(len(in.rows)) + passed, RowsOut: w.Rows, Samples: w.Samples, Bytes: w.Bytes}
			if level > 0 {
				// What the retention takes out of a day has to be looked for again.
				if _, err := tx.Exec(ctx, schema.ErasedDayReset, days); err != nil {
					return err
				}
			}
		}
		_, err := tx.Exec(ctx, schema.PartAdvance, part, in.upto)
		return err
	})
	return done, err
}

// room makes the places that rows of the days will go to, and commits. A reader whose snapshot sees the rows must find the
// place when it plans its query, so the place must have been there before.
func (s *Store) room(ctx context.Context, epoch int64, level int16, days []int64) error {
	if level > 0 {
		for _, day := range days {
			if err := s.seam.ensureDay(ctx, day); err != nil {
				return err
			}
		}
		return nil
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := Fence(ctx, tx, epoch); err != nil {
			return err
		}
		for _, day := range days {
			if _, err := openPart(ctx, tx, 1, day); err != nil {
				return err
			}
		}
		return nil
	})
}

// next is what a step of a merge reads: all rows of the series with IDs above from, up to upto, in order of series and version.
type next struct {
	from, upto int64
	rows       []Row
	broken     []wide // bundles that cannot be read, kept as they are: somebody may still repair them
	whole      []wide // bundles in which there is nothing to merge, in order of series
}

// wide is a row of a table, and the last series ID in it.
type wide struct {
	Row
	last    int64
	members int32 // packed rows, of a bundle that was looked into
}

// Rows are put into room, as far as it goes.
func (s *Store) readPart(ctx context.Context, part int32, width int64, room []Row) (n next, err error) {
	if err := s.pool.QueryRow(ctx, schema.PartUpto, part).Scan(&n.from); err != nil {
		return n, err
	}
	for limit := s.steps.of(part); ; limit *= 2 {
		n.upto, n.rows, n.broken, n.whole = math.MaxInt64, room[:0], nil, nil
		rows, err := s.pool.Query(ctx, schema.Expand(schema.PartRows, "part", int64(part)), n.from, limit)
		if err != nil {
			return n, err
		}
		var found []wide
		bytes := 0
		err = each(rows, func(r Row, last int64) error {
			r.Data = slices.Clone(r.Data)
			bytes += len(r.Data)
			found = append(found, wide{Row: r, last: last})
			return nil
		})
		if err != nil {
			return n, err
		}
		if len(found) == limit {
			// More rows of the last ones' series may follow.
			n.upto = int64(found[len(found)-1].SeriesID) - 1
			if n.upto <= n.from {
				continue
			}
		}
		s.steps.read(len(found), bytes)
		return n, s.unpack(ctx, s.pool, &n, s.setWhole(&n, found, width))
	}
}

// setWhole puts aside the bundles in which there is nothing to merge into windows of the width, and returns the others: a part that was flushed once, or series
// that lived for a short time, are passed on without looking at each packed row.
func (s *Store) setWhole(n *next, found []wide, width int64) (rest []wide) {
	rest = found[:0]
	reached := int64(math.MinInt64) // the highest series ID so far
	for i, b := range found {
		alone := int64(b.SeriesID) > reached && (i+1 == len(found) || int64(found[i+1].SeriesID) > b.last)
		reached = max(reached, b.last)
		whole := alone && int64(b.SeriesID) > n.from && b.last <= n.upto
		if whole {
			b.members, whole = s.nothingToMerge(b.Row, width)
		}
		if whole {
			n.whole = append(n.whole, b)
		} else {
			rest = append(rest, b)
		}
	}
	return rest
}

// nothingToMerge tells whether a bundle whose series have no rows elsewhere would come out of a merge as it is. It says how many members it has.
func (s *Store) nothingToMerge(b Row, width int64) (members int32, ok bool) {
	if b.Encoding != EncodingBundle || len(b.Data) < bundleLeast || floor(b.Start, width) != floor(b.End, width) {
		return 0, false
	}
	return single(b, func(id uint64) bool { return s.Erased == nil || len(s.Erased(id)) == 0 })
}

// unpack takes those rows out of bundles whose turn it is.
func (s *Store) unpack(ctx context.Context, db querier, n *next, found []wide) error {
	wanted := wantedTimes{}
	for _, b := range found {
		err := s.unbundle(b.Row, func(r Row) error {
			if id := int64(r.SeriesID); id > n.from && id <= n.upto {
				r.Times = s.known.find(r.Times, wanted)
				n.rows = append(n.rows, r)
			}
			return nil
		})
		var bad *RowError
		if errors.As(err, &bad) {
			if id := int64(b.SeriesID); id > n.from && id <= n.upto {
				n.broken = append(n.broken, b)
			}
		} else if err != nil {
			return err
		}
	}
	slices.SortStableFunc(n.rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.SeriesID, b.SeriesID), cmp.Compare(a.Version, b.Version))
	})
	return s.known.read(ctx, db, wanted)
}

// mergeSeries merges the rows of one series, in order of version, to one row per window and encoding.
func (s *Store) mergeSeries(rows []Row, width int64, times *timesOf) ([]Row, error) {
	var erased []Span
	if s.Erased != nil {
		erased = s.Erased(rows[0].SeriesID)
	}
	if len(rows) == 1 && len(erased) == 0 {
		return rows, nil
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		if wa, wb := floor(a.Start, width), floor(b.Start, width); wa != wb {
			return cmp.Compare(wa, wb)
		}
		return cmp.Compare(a.Version, b.Version)
	})
	var out []Row
	for len(rows) > 0 {
		n, window := 1, floor(rows[0].Start, width)
		for n < len(rows) && floor(rows[n].Start, width) == window && !s.apart(rows[n-1].Version, rows[n].Version, window, window+width) {
			n++
		}
		if n == 1 && !slices.ContainsFunc(erased, func(e Span) bool { return e.Touches(rows[0]) }) {
			out = append(out, rows[0])
		} else {
			merged, err := s.mergeWindow(rows[:n], erased, times)
			if err != nil {
				return nil, err
			}
			out = append(out, merged...)
		}
		rows = rows[n:]
	}
	return out, nil
}

func (s *Store) mergeWindow(rows []Row, erased []Span, times *timesOf) ([]Row, error) {
	set := sets.Get().(*series.Set)
	defer sets.Put(set)
	version := int32(0)
	good := make([]Clipped, 0, len(rows))
	for _, r := range rows {
		version = max(version, r.Version)
		good = AppendWithout(good, Clipped{r, math.MinInt64, math.MaxInt64}, erased)
	}
	var broken []Row
	for {
		err := load(set, good, nil, true)
		if err == nil {
			break
		}
		// What cannot be read is kept as it is: somebody may still repair it.
		var bad *RowError
		if !errors.As(err, &bad) {
			return nil, err
		}
		s.OnCorrupt(bad.Row, bad.Err)
		broken = append(broken, bad.Row)
		good = slices.DeleteFunc(good, func(r Clipped) bool { return &r.Data[0] == &bad.Row.Data[0] })
	}
	out, err := encode(nil, rows[0].SeriesID, version, set, times)
	return append(out, broken...), err
}

// sets keeps the memory of merges.
var sets = sync.Pool{New: func() any { return new(series.Set) }}
