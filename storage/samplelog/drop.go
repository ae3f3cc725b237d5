package samplelog

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

// Table is one of the two tables that the log is written to in turn.
type Table uint8

// table is what is done with one of them.
type table struct{ append, lock, empty string }

var tables = [2]table{
	{schema.LogAppend, schema.LogLock, schema.LogEmpty},
	{schema.LogAppendOther, schema.LogLockOther, schema.LogEmptyOther},
}

// other is the table whose turn it is not.
func (t Table) other() Table { return 1 - t }

// Line is where a barrier parts the log: all up to Position is applied, and nothing after it.
type Line struct {
	Position
	Idle Table // is not written until it has been emptied: all of its rows are before the line
}

// Drop makes what is before the line not count any more, as part of the transaction that a Fence protects. Whoever has an older snapshot still sees it:
// a dump that does not have the rows of a flush has those of the log.
func (line Line) Drop(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, schema.LogFlushed, line.Segment, line.Seq); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, schema.SegmentDrop, line.Segment)
	return err
}

// spent is an idle table of which nothing counts any more.
type spent struct {
	table   Table
	readers []string // transactions that may have a snapshot in which it does
}

// Dropped says that the transaction with Drop was committed. From then on Empty can empty the idle table.
func (l *Log) Dropped(ctx context.Context, pool *pgxpool.Pool, line Line) error {
	if l.spent != nil && l.spent.table == line.Idle {
		return nil // of it nothing has counted since an earlier flush
	}
	s := &spent{table: line.Idle}
	if err := pool.QueryRow(ctx, schema.LogReaders).Scan(&s.readers); err != nil {
		return fmt.Errorf("asking who reads the log: %w", err)
	}
	l.spent = s
	return nil
}

// Empty empties the idle table, and has the writer go over to it at the next barrier, if nothing of it counts any more, nobody looks at
// it, and no transaction is open that may do so with an old snapshot, for which TRUNCATE would not leave it as it was (PostgreSQL's manual, "Caveats" of
// concurrency control). Else it does nothing, and waits for nobody: a dump may take hours. It must not be called while a flush is under way.
func (l *Log) Empty(ctx context.Context, pool *pgxpool.Pool) error {
	s := l.spent
	if s == nil {
		return nil
	}
	var left bool
	if err := pool.QueryRow(ctx, schema.LogReadersLeft, s.readers).Scan(&left); err != nil || left {
		return err
	}
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var version int32
		if err := tx.QueryRow(ctx, schema.LeaderFence, l.Epoch()).Scan(&version); err != nil {
			return err // with another leader it may be the one that is written
		}
		if _, err := tx.Exec(ctx, tables[s.table].lock); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, tables[s.table].empty)
		return err
	})
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == pgerrcode.LockNotAvailable, errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("emptying the log: %w", err)
	}
	l.spent = nil
	l.turn.Store(true)
	return nil
}
