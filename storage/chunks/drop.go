package chunks

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promkeep/promkeep/schema"
)

// ErrBusy means that transactions which are still open may read what was to go: it has to be tried again.
var ErrBusy = errors.New("transactions that are still open may read it")

// patiently calls fn with a connection on which no statement waits long for a lock: it is ErrBusy then. A transaction that read something may stay
// open for hours, a dump's for example, and whoever waits for it holds up other work, or even other readers.
func patiently(ctx context.Context, pool *pgxpool.Pool, fn func(*pgxpool.Conn) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, schema.LockPatience); err != nil {
		return err
	}
	defer func() {
		if _, err := conn.Exec(ctx, schema.LockPatienceEnd); err != nil {
			conn.Conn().Close(context.WithoutCancel(ctx)) // the pool leaves it out then
		}
	}()
	err = fn(conn)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == pgerrcode.LockNotAvailable {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

// DropMerged removes the parts that have been merged: no snapshot taken from now on counts their rows. It is ErrBusy if one of them may still be read,
// and they have to wait. It needs no other work of the leader to stop.
func (s *Store) DropMerged(ctx context.Context) error {
	rows, err := s.pool.Query(ctx, schema.PartMerged)
	if err != nil {
		return err
	}
	parts, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return err
	}
	for _, part := range parts {
		err := patiently(ctx, s.pool, func(conn *pgxpool.Conn) error { return dropPart(ctx, conn, part) })
		if err != nil {
			return err
		}
	}
	return nil
}

func dropPart(ctx context.Context, conn *pgxpool.Conn, part int32) error {
	expand := func(sql string) string { return schema.Expand(sql, "part", int64(part)) }
	var attached bool
	err := conn.QueryRow(ctx, expand(schema.PartAttached)).Scan(&attached)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return err
	default:
		sql := schema.PartDetach
		if !attached {
			sql = schema.PartDetachFinalize
		}
		if _, err := conn.Exec(ctx, expand(sql)); err != nil {
			return fmt.Errorf("detaching part %d: %w", part, err)
		}
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, expand(schema.PartDrop)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, schema.PartDelete, part)
		return err
	})
}
