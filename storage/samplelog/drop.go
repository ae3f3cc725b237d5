package samplelog

import (
	"context"
	"errors"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promkeep/promkeep/schema"
)

// Table is one of the two tables that the log is written to in turn.
type Table uint8

// table is what is done with one of them.
type table struct{ append, replay, drop, lock, empty string }

var tables = [2]table{
	{schema.LogAppend, schema.LogReplay, schema.LogDrop, schema.LogLock, schema.LogEmpty},
	{schema.LogAppendOther, schema.LogReplayOther, schema.LogDropOther, schema.LogLockOther, schema.LogEmptyOther},
}

// other is the table whose turn it is not.
func (t Table) other() Table { return 1 - t }

// Line is where a barrier parts the log: all up to Position is applied, and nothing after it.
type Line struct {
	Position
	Idle Table // is not written until the next barrier: all of its rows are before the line
}

// Drop takes what is before the line out of the log, as part of a transaction. The idle table is emptied, which frees its space at once,
// unless somebody looks at it: a pg_dump may take hours, and a flush must not wait for it. Then its rows are deleted, as are those that
// the other table has when the one before it could not be emptied in time.
func (line Line) Drop(ctx context.Context, tx pgx.Tx) error {
	idle, written := tables[line.Idle], tables[line.Idle.other()]
	if _, err := tx.Exec(ctx, written.drop, line.Segment, line.Seq); err != nil {
		return err
	}
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, idle.lock); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, idle.empty)
		return err
	})
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) && e.Code == pgerrcode.LockNotAvailable {
		_, err = tx.Exec(ctx, idle.drop, line.Segment, line.Seq)
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, schema.SegmentDrop, line.Segment)
	return err
}

// Dropped says that the transaction with Drop was committed: the log may be written to the idle table from the next barrier on.
func (l *Log) Dropped() { l.turn.Store(true) }
