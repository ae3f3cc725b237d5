package chunks

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promkeep/promkeep/schema"
)

// seam is all in which plain PostgreSQL and TimescaleDB differ: how a day range is created, compressed and dropped.
type seam interface {
	// ensureDay creates the range of the day that begins at day (ms), if need be.
	ensureDay(ctx context.Context, day int64) error
	// days returns the beginnings (ms) of all ranges, oldest first.
	days(ctx context.Context) ([]int64, error)
	// dropBefore drops all ranges that end at or before t (ms).
	dropBefore(ctx context.Context, t int64) (int, error)
	// compressBefore compresses all ranges that end at or before t (ms) and are not compressed.
	compressBefore(ctx context.Context, t int64) (int, error)
}

// plain is native range partitions.
type plain struct{ pool *pgxpool.Pool }

func (p plain) ensureDay(ctx context.Context, day int64) error {
	number := day / Day
	var exists bool
	if err := p.pool.QueryRow(ctx, schema.Expand(schema.ChunkPartitionExists, "day", number)).Scan(&exists); err != nil || exists {
		return err
	}
	sql := schema.Expand(schema.ChunkPartitionCreate, "day", number)
	sql = schema.Expand(sql, "from", day)
	sql = schema.Expand(sql, "to", day+Day)
	return pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql)
		return err
	})
}

func (p plain) dropBefore(ctx context.Context, t int64) (int, error) {
	rows, err := p.pool.Query(ctx, schema.ChunkPartitions)
	if err != nil {
		return 0, err
	}
	type partition struct {
		name    string
		day     int64
		pending bool
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p partition, err error) {
		err = row.Scan(&p.name, &p.day, &p.pending)
		return p, err
	})
	if err != nil {
		return 0, err
	}
	all = slices.DeleteFunc(all, func(d partition) bool { return (d.day+1)*Day > t })
	// Of a table only one partition at a time can be on its way out.
	slices.SortStableFunc(all, func(a, b partition) int {
		switch {
		case a.pending == b.pending:
			return 0
		case a.pending:
			return -1
		default:
			return 1
		}
	})
	n := 0
	for _, d := range all {
		expand := func(sql string) string { return schema.Expand(sql, "day", d.day) }
		err := patiently(ctx, p.pool, func(conn *pgxpool.Conn) error {
			sql := schema.ChunkPartitionDetach
			if d.pending {
				sql = schema.ChunkPartitionDetachFinalize
			}
			// Detaching concurrently waits for readers, and does not make new readers wait.
			if _, err := conn.Exec(ctx, expand(sql)); err != nil {
				return fmt.Errorf("detaching %s: %w", d.name, err)
			}
			if _, err := conn.Exec(ctx, expand(schema.ChunkPartitionDrop)); err != nil {
				return fmt.Errorf("dropping %s: %w", d.name, err)
			}
			return nil
		})
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (plain) compressBefore(context.Context, int64) (int, error) { return 0, nil }

// columnstoreBatch is how many bundles TimescaleDB's columnstore packs together. All of them are unpacked for the sake of one, and they are large
// already: a batch of the default 1,000 rows is 32 MiB, and no smaller.
const columnstoreBatch = 4

// timescale is a hypertable.
type timescale struct {
	pool        *pgxpool.Pool
	columnstore bool
}

func (t timescale) ensureDay(ctx context.Context, day int64) error {
	var exists bool
	if err := t.pool.QueryRow(ctx, schema.TimescaleDBChunkExists, day).Scan(&exists); err != nil || exists {
		return err
	}
	return pgx.BeginFunc(ctx, t.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, schema.TimescaleDBChunkCreate, day); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, schema.TimescaleDBChunkEmpty, day)
		return err
	})
}

func (t timescale) dropBefore(ctx context.Context, before int64) (n int, err error) {
	err = patiently(ctx, t.pool, func(conn *pgxpool.Conn) error {
		return conn.QueryRow(ctx, schema.TimescaleDBDropBefore, before).Scan(&n)
	})
	return n, err
}

func (t timescale) compressBefore(ctx context.Context, before int64) (int, error) {
	if !t.columnstore {
		return 0, nil
	}
	rows, err := t.pool.Query(ctx, schema.TimescaleDBCompressible, before)
	if err != nil {
		return 0, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, err
	}
	for i, name := range names {
		if err := t.compress(ctx, schema.TimescaleDBCompress, name); err != nil {
			return i, fmt.Errorf("compressing %s: %w", name, err)
		}
	}
	return len(names), nil
}

// compress runs a statement that hands rows to the columnstore. In the end it truncates what they leave; where a transaction that may
// still read that stays open, it deletes them there, which leaves more to vacuum.
func (t timescale) compress(ctx context.Context, sql string, arg any) error {
	err := t.compressAnd(ctx, "truncate_only", sql, arg)
	if errors.Is(err, ErrBusy) {
		err = t.compressAnd(ctx, "truncate_or_delete", sql, arg)
	}
	return err
}

func (t timescale) compressAnd(ctx context.Context, truncate, sql string, arg any) error {
	return patiently(ctx, t.pool, func(conn *pgxpool.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, schema.TimescaleDBBatch, fmt.Sprint(columnstoreBatch)); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, schema.TimescaleDBTruncate, truncate); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, sql, arg)
			return err
		})
	})
}
