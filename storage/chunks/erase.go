package chunks

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/series"
)

// Span is erased: of rows up to Version no sample in [Mint, Maxt] (ms) counts.
type Span struct {
	Mint, Maxt int64
	Version    int32
}

// Touches tells whether the span may erase samples of the row.
func (s Span) Touches(r Row) bool {
	return s.Version >= r.Version && s.Mint <= r.End && s.Maxt >= r.Start
}

// AppendWithout appends what remains of r when the spans are taken out of it: r itself, several stretches of it, or nothing.
func AppendWithout(out []Clipped, r Clipped, erased []Span) []Clipped {
	for i, e := range erased {
		if !e.Touches(r.Row) {
			continue
		}
		rest := erased[i+1:]
		if left := r; e.Mint > max(r.Mint, r.Start) {
			left.Maxt = min(left.Maxt, e.Mint-1)
			out = AppendWithout(out, left, rest)
		}
		if right := r; e.Maxt < min(r.Maxt, r.End) {
			right.Mint = max(right.Mint, e.Maxt+1)
			out = AppendWithout(out, right, rest)
		}
		return out
	}
	if r.Mint > r.Maxt {
		return out
	}
	return append(out, r)
}

// Erased says what a step took out.
type Erased struct {
	Rows, Samples int64 // packed rows that were written again or went, and samples that went
}

// Eraser takes samples out of packed rows for good.
type Eraser struct {
	IDs        []uint64 // the series, in order
	Mint, Maxt int64    // ms: bounds of what is erased
	Spans      []Span   // what is erased of each
}

// eraseSeries is how many series one step of erasing looks at.
const eraseSeries = 500

// steps cuts the series into those of one step: of one metric, and not too many.
func (e Eraser) steps() (out [][]uint64) {
	for ids := e.IDs; len(ids) > 0; {
		n := 1
		for n < len(ids) && n < eraseSeries && ids[n]>>metricShift == ids[0]>>metricShift {
			n++
		}
		out = append(out, ids[:n])
		ids = ids[n:]
	}
	return out
}

// EraseDay rewrites the rows of a day range (ms) that hold something erased, in small transactions. Between them it calls pause. A reader
// sees each row before or after, and must leave out what is erased in both cases. Recompress should follow.
func (s *Store) EraseDay(ctx context.Context, epoch, day int64, e Eraser, pause func()) (done Erased, err error) {
	for _, ids := range e.steps() {
		err := s.erase(ctx, epoch, -1, schema.CopyChunk, e, &done, func(tx pgx.Tx) (pgx.Rows, error) {
			if ts, ok := s.seam.(timescale); ok && ts.columnstore {
				if _, err := tx.Exec(ctx, schema.TimescaleDBDmlUnlimited); err != nil {
					return nil, err
				}
			}
			return tx.Query(ctx, schema.EraseChunk, schema.SignedIDs(ids), int64(ids[0]), int64(ids[len(ids)-1]), day, day+Day, e.Mint, e.Maxt)
		})
		if err != nil {
			return done, err
		}
		pause()
	}
	return done, nil
}

// Recompress hands the rows of a day range (ms) that have left the columnstore to it again.
func (s *Store) Recompress(ctx context.Context, day int64) error {
	if ts, ok := s.seam.(timescale); ok && ts.columnstore {
		return ts.compress(ctx, schema.TimescaleDBRecompress, day)
	}
	return nil
}

// ErasePart is EraseDay for a part.
func (s *Store) ErasePart(ctx context.Context, epoch int64, part int32, e Eraser, pause func()) (done Erased, err error) {
	for _, ids := range e.steps() {
		err := s.erase(ctx, epoch, part, schema.Expand(schema.CopyRecent, "part", int64(part)), e, &done, func(tx pgx.Tx) (pgx.Rows, error) {
			return tx.Query(ctx, schema.Expand(schema.ErasePart, "part", int64(part)), schema.SignedIDs(ids), int64(ids[0]), int64(ids[len(ids)-1]), e.Mint, e.Maxt)
		})
		if err != nil {
			return done, err
		}
		pause()
	}
	return done, nil
}

// Parts returns the parts that hold rows which count.
func (s *Store) Parts(ctx context.Context) ([]int32, error) {
	rows, err := s.pool.Query(ctx, schema.PartIDs)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int32])
}

// erase takes rows out with take and puts back what remains of them, in one transaction.
func (s *Store) erase(ctx context.Context, epoch int64, part int32, into string, e Eraser, done *Erased, take func(pgx.Tx) (pgx.Rows, error)) error {
	var step Erased
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := Fence(ctx, tx, epoch); err != nil {
			return err
		}
		rows, err := take(tx)
		if err != nil {
			return err
		}
		var found []wide
		err = each(rows, func(r Row, last int64) error {
			r.Data = slices.Clone(r.Data)
			found = append(found, wide{Row: r, last: last})
			return nil
		})
		if err != nil || len(found) == 0 {
			return err
		}
		n := next{from: math.MinInt64, upto: math.MaxInt64}
		if err := s.unpack(ctx, tx, &n, found); err != nil {
			return err
		}
		left, err := s.without(n.rows, e, &step)
		if err != nil {
			return err
		}
		if len(left)+len(n.broken) == 0 {
			return nil
		}
		if part < 0 {
			if err := keepTimes(ctx, tx, left); err != nil {
				return err
			}
		}
		_, err = stream(ctx, tx, into, func(w *Writer) error {
			for _, r := range left {
				if err := w.Write(part, r); err != nil {
					return err
				}
			}
			for _, r := range n.broken {
				if err := w.writeRaw(part, r.Row, r.last); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	})
	if err == nil {
		done.Rows += step.Rows
		done.Samples += step.Samples
	}
	return err
}

// without returns what remains of the rows, in order of series.
func (s *Store) without(rows []Row, e Eraser, step *Erased) ([]Row, error) {
	var out []Row
	var times timesOf
	for _, r := range rows {
		left := []Row{r}
		if _, concerned := slices.BinarySearch(e.IDs, r.SeriesID); concerned {
			var err error
			if left, err = s.Without(r, e.Spans, &times); err != nil {
				return nil, err
			}
		}
		if len(left) != 1 || left[0].N != r.N {
			step.Rows++
			step.Samples += int64(r.N)
			for _, l := range left {
				step.Samples -= int64(l.N)
			}
		}
		out = append(out, left...)
	}
	slices.SortStableFunc(out, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.SeriesID, b.SeriesID), cmp.Compare(a.Version, b.Version))
	})
	return out, nil
}

// Without returns the row without what is erased: itself where nothing is. A row that cannot be decoded stays, and OnCorrupt is told.
func (s *Store) Without(r Row, erased []Span, times *timesOf) ([]Row, error) {
	if !slices.ContainsFunc(erased, func(e Span) bool { return e.Touches(r) }) {
		return []Row{r}, nil
	}
	clipped := AppendWithout(nil, Clipped{r, math.MinInt64, math.MaxInt64}, erased)
	if len(clipped) == 0 {
		return nil, nil
	}
	set := sets.Get().(*series.Set)
	defer sets.Put(set)
	err := load(set, clipped, nil, true)
	var bad *RowError
	if errors.As(err, &bad) {
		s.OnCorrupt(bad.Row, bad.Err)
		return []Row{r}, nil
	}
	if err != nil {
		return nil, err
	}
	return encode(nil, r.SeriesID, r.Version, set, times)
}
