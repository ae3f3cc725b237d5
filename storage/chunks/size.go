package chunks

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
)

// Size returns the bytes on disk of all of promkeep's relations, the catalogue, the log and indexes included.
func (s *Store) Size(ctx context.Context) (bytes int64, err error) {
	if err := s.pool.QueryRow(ctx, schema.RelationsSize).Scan(&bytes); err != nil {
		return 0, err
	}
	if _, ok := s.seam.(timescale); ok {
		var more int64
		if err := s.pool.QueryRow(ctx, schema.TimescaleDBSize).Scan(&more); err != nil {
			return 0, err
		}
		bytes += more
	}
	return bytes, nil
}

// Days returns the beginnings (ms) of the day ranges that there are, oldest first.
func (s *Store) Days(ctx context.Context) ([]int64, error) { return s.seam.days(ctx) }

// RetainSize drops the oldest day ranges until all relations together take at most limit bytes. Only days that ended at or
// before t (ms) go. It returns how many did, and what the rest takes.
func (s *Store) RetainSize(ctx context.Context, limit, t int64) (dropped int, bytes int64, err error) {
	bytes, err = s.Size(ctx)
	if err != nil || bytes <= limit {
		return 0, bytes, err
	}
	days, err := s.Days(ctx)
	if err != nil {
		return 0, bytes, err
	}
	days = slices.DeleteFunc(days, func(day int64) bool { return day+Day > t })
	for _, day := range days {
		n, err := s.seam.dropBefore(ctx, day+Day)
		if dropped += n; err != nil {
			return dropped, bytes, err
		}
		if bytes, err = s.Size(ctx); err != nil || bytes <= limit {
			return dropped, bytes, err
		}
	}
	return dropped, bytes, nil
}

func (p plain) days(ctx context.Context) ([]int64, error) {
	rows, err := p.pool.Query(ctx, schema.ChunkPartitions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (day int64, err error) {
		var (
			name    string
			pending bool
		)
		err = row.Scan(&name, &day, &pending)
		return day * Day, err
	})
}

func (t timescale) days(ctx context.Context) ([]int64, error) {
	rows, err := t.pool.Query(ctx, schema.TimescaleDBDays)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}
