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

// mergeRows is about how many rows one step of a merge reads.
const mergeRows = 50_000

// Merged says what a step of a merge did.
type Merged struct {
	Rows, RowsOut, Samples, Bytes int64
	Done                          bool // nothing is left to merge
}

// Merge does one step: it moves the next series of the oldest sealed part to where they belong, in one transaction, or
// drops a part that has been merged whole.
func (s *Store) Merge(ctx context.Context, epoch int64) (Merged, error) {
	var dropped int32
	err := s.pool.QueryRow(ctx, schema.PartMerged).Scan(&dropped)
	if err == nil {
		return Merged{}, s.dropPart(ctx, dropped)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return Merged{}, err
	}
	var (
		part  int32
		level int16
	)
	err = s.pool.QueryRow(ctx, schema.PartSealed).Scan(&part, &level)
	if errors.Is(err, pgx.ErrNoRows) {
		return Merged{Done: true}, nil
	}
	if err != nil {
		return Merged{}, err
	}
	return s.mergeStep(ctx, epoch, part, level)
}

func (s *Store) mergeStep(ctx context.Context, epoch int64, part int32, level int16) (done Merged, err error) {
	var days []int64
	var out []Row
	from, upto, in, err := s.readPart(ctx, part)
	if err != nil {
		return done, err
	}
	width := int64(Window)
	if level > 0 {
		width = Day
	}
	for rest := in; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].SeriesID == rest[0].SeriesID {
			n++
		}
		merged, err := s.mergeSeries(rest[:n], width)
		if err != nil {
			return done, err
		}
		out = append(out, merged...)
		rest = rest[n:]
	}
	for _, r := range out {
		if day := floor(r.Start, Day); !slices.Contains(days, day) {
			days = append(days, day)
		}
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
		if found != from {
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
		if len(out) > 0 {
			w, err := stream(ctx, tx, sql, func(w *Writer) error {
				for _, r := range out {
					to := int32(-1)
					if level == 0 {
						to = parts[floor(r.Start, Day)]
					}
					if err := w.Write(to, r); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			done = Merged{Rows: int64(len(in)), RowsOut: w.Rows, Samples: w.Samples, Bytes: w.Bytes}
		}
		_, err := tx.Exec(ctx, schema.PartAdvance, part, upto)
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

// readPart reads the rows of the next series of a part, in order of series and version, and says which IDs they are:
// above from, up to upto.
func (s *Store) readPart(ctx context.Context, part int32) (from, upto int64, out []Row, err error) {
	if err := s.pool.QueryRow(ctx, schema.PartUpto, part).Scan(&from); err != nil {
		return 0, 0, nil, err
	}
	for limit := mergeRows; ; limit *= 2 {
		rows, err := s.pool.Query(ctx, schema.Expand(schema.PartRows, "part", int64(part)), from, limit)
		if err != nil {
			return 0, 0, nil, err
		}
		out = out[:0]
		if err := each(rows, func(r Row) error { out = append(out, r); return nil }); err != nil {
			return 0, 0, nil, err
		}
		if len(out) < limit {
			return from, math.MaxInt64, out, nil
		}
		// The last series may be cut.
		last := out[len(out)-1].SeriesID
		n := len(out)
		for n > 0 && out[n-1].SeriesID == last {
			n--
		}
		if n > 0 {
			return from, int64(out[n-1].SeriesID), out[:n], nil
		}
	}
}

// mergeSeries merges the rows of one series, in order of version, to one row per window and encoding.
func (s *Store) mergeSeries(rows []Row, width int64) ([]Row, error) {
	if len(rows) == 1 {
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
		n := 1
		for n < len(rows) && floor(rows[n].Start, width) == floor(rows[0].Start, width) {
			n++
		}
		if n == 1 {
			out = append(out, rows[0])
		} else {
			merged, err := s.mergeWindow(rows[:n])
			if err != nil {
				return nil, err
			}
			out = append(out, merged...)
		}
		rows = rows[n:]
	}
	return out, nil
}

func (s *Store) mergeWindow(rows []Row) ([]Row, error) {
	set := sets.Get().(*series.Set)
	defer sets.Put(set)
	version := int32(0)
	good := make([]Clipped, 0, len(rows))
	for _, r := range rows {
		version = max(version, r.Version)
		good = append(good, Clipped{r, math.MinInt64, math.MaxInt64})
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
	out, err := Encode(rows[0].SeriesID, version, set)
	return append(out, broken...), err
}

// sets keeps the memory of merges.
var sets = sync.Pool{New: func() any { return new(series.Set) }}
