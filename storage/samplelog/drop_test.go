package samplelog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// dropper drops what is in a log as a flush does.
type dropper struct {
	t    *testing.T
	l    *Log
	pool *pgxpool.Pool
}

// put appends rows of their own with a text each.
func (d dropper) put(texts ...string) {
	d.t.Helper()
	for _, text := range texts {
		require.NoError(d.t, d.l.Append(&Item{Blocks: [][]byte{[]byte(text)}}))
	}
}

// line draws a line as a flush does.
func (d dropper) line() (line Line) {
	d.t.Helper()
	require.NoError(d.t, d.l.Empty(context.Background(), d.pool))
	require.NoError(d.t, d.l.Barrier(func(l Line) { line = l }))
	return line
}

// drop drops what is before the line, in a transaction that fails if so told.
func (d dropper) drop(line Line, fail error) {
	d.t.Helper()
	err := pgx.BeginFunc(context.Background(), d.pool, func(tx pgx.Tx) error {
		if err := line.Drop(context.Background(), tx); err != nil {
			return err
		}
		return fail
	})
	require.ErrorIs(d.t, err, fail)
	if err == nil {
		require.NoError(d.t, d.l.Dropped(context.Background(), d.pool, line))
	}
}

// size is what both tables take, in bytes.
func (d dropper) size() (n int64) {
	d.t.Helper()
	require.NoError(d.t, d.pool.QueryRow(context.Background(), "SELECT pg_table_size('_promkeep.log') + pg_table_size('_promkeep.log_other')").Scan(&n))
	return n
}

// counting are the texts that are not dropped, as somebody sees them.
func (d dropper) counting(as interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}) []string {
	d.t.Helper()
	rows, err := as.Query(context.Background(), "SELECT convert_from(payload, 'UTF8') FROM ("+schema.LogReplay+") AS log", 0, 0)
	require.NoError(d.t, err)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(d.t, err)
	return out
}

// rows are the texts in each of the two tables.
func (d dropper) rows() (out [2][]string) {
	d.t.Helper()
	for i, name := range []string{"log", "log_other"} {
		rows, err := d.pool.Query(context.Background(), "SELECT convert_from(payload, 'UTF8') FROM _promkeep."+name+" ORDER BY segment, seq")
		require.NoError(d.t, err)
		out[i], err = pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(d.t, err)
	}
	return out
}

// replayed is what another process would find.
func (d dropper) replayed() (out []string) {
	d.t.Helper()
	d.l.Close()
	cfg := d.l.cfg
	cfg.Replayed = func(p []byte) error { out = append(out, string(p)); return nil }
	cfg.Stream = [16]byte{1}
	l, err := Open(context.Background(), cfg)
	require.NoError(d.t, err)
	l.Close()
	return out
}

// TestLaw8TheLogIsDroppedByTurns: what is flushed does not count from the commit on, what comes after the line stays, and the tables do not grow
// however long this goes on, with nothing that vacuums them.
func TestLaw8TheLogIsDroppedByTurns(t *testing.T) {
	pg := pgtest.New(t)
	l, _ := opened(t, pg, Config{})
	d := dropper{t, l, pg.Pool(t)}
	block := make([]byte, MaxBlock)
	for i := range block {
		block[i] = byte('a' + i%26)
	}
	const rows = 50
	for round := range 12 {
		for range rows - 1 {
			d.put(string(block))
		}
		line := d.line()
		kept := fmt.Sprintf("after line %d", round)
		d.put(kept) // while the flush is under way
		d.drop(line, nil)
		require.Equal(t, []string{kept}, d.counting(d.pool))
		require.Less(t, d.size(), int64(4*rows*8192), "round %d", round)
	}
	require.Equal(t, []string{"after line 11"}, d.replayed())
}

// TestAFlushThatFailsLeavesTheLogAlone, and what is dropped by the next lies in both tables.
func TestAFlushThatFailsLeavesTheLogAlone(t *testing.T) {
	pg := pgtest.New(t)
	l, _ := opened(t, pg, Config{})
	d := dropper{t, l, pg.Pool(t)}
	d.put("first")
	d.drop(d.line(), nil)
	d.put("a", "b")
	line := d.line()
	d.put("c", "d")
	require.Equal(t, [2][]string{{"first", "a", "b"}, {"c", "d"}}, d.rows(), "what comes after a line goes to the other table")
	require.Equal(t, []string{"a", "b", "c", "d"}, d.counting(d.pool))
	d.drop(line, errors.New("the flush fails"))
	require.Equal(t, []string{"a", "b", "c", "d"}, d.counting(d.pool))
	line = d.line()
	d.put("e")
	require.Equal(t, [2][]string{{"first", "a", "b"}, {"c", "d", "e"}}, d.rows(), "the first table has not been emptied")
	d.drop(line, nil)
	require.Equal(t, []string{"e"}, d.counting(d.pool))
	line = d.line()
	d.put("f")
	require.Equal(t, [2][]string{{"f"}, {"c", "d", "e"}}, d.rows())
	// The line is dropped only after the writer has lost its connection and gone on with another.
	terminate(t, d.pool)
	require.Eventually(t, func() bool { return l.Append(&Item{Blocks: [][]byte{[]byte("g")}}) == nil }, time.Minute, time.Millisecond)
	require.Equal(t, []string{"e", "f", "g"}, d.counting(d.pool))
	d.drop(line, nil)
	require.Equal(t, []string{"f", "g"}, d.counting(d.pool))
	line = d.line()
	d.put("h")
	require.Equal(t, [2][]string{{"f", "g"}, {"h"}}, d.rows())
	d.drop(line, nil)
	d.line()
	d.put("i")
	require.Equal(t, [2][]string{{"i"}, {"h"}}, d.rows())
	var waiting, bytes int
	require.NoError(t, d.pool.QueryRow(context.Background(), "SELECT items, bytes FROM promkeep.maintenance WHERE state = 'rows of the log'").Scan(&waiting, &bytes))
	require.Equal(t, []int{2, 2}, []int{waiting, bytes}, "what waits for a flush lies in both")
	require.Equal(t, []string{"h", "i"}, d.replayed(), "in order, from both")
}

// TestLaw2AnOldSnapshotHasItsLog: a transaction that began before a flush, and looks at the log long after, finds there what it does not find among
// the rows that were flushed. So does a dump, which has its snapshot before it has a lock on any table.
func TestLaw2AnOldSnapshotHasItsLog(t *testing.T) {
	pg := pgtest.New(t)
	l, _ := opened(t, pg, Config{})
	ctx := context.Background()
	d := dropper{t, l, pg.Pool(t)}
	d.put("first")
	d.drop(d.line(), nil)
	d.put("a", "b")
	old, err := d.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	require.NoError(t, err)
	defer old.Rollback(ctx)
	_, err = old.Exec(ctx, "SELECT")
	require.NoError(t, err)
	for range 4 {
		d.drop(d.line(), nil)
		d.put("c")
	}
	require.Equal(t, []string{"c"}, d.counting(d.pool))
	require.Equal(t, []string{"a", "b"}, d.counting(old))
	flushed := func() (n, bytes int) {
		require.NoError(t, d.pool.QueryRow(ctx, "SELECT items, bytes FROM promkeep.maintenance WHERE state = 'flushed rows of the log'").Scan(&n, &bytes))
		return n, bytes
	}
	on := d.rows()
	n, bytes := flushed()
	require.Equal(t, len(on[0])+len(on[1])-1, n, "all but the last c")
	require.Equal(t, len(strings.Join(append(on[0], on[1]...), ""))-1, bytes)
	// One of another transaction, which sees nothing of what the table had, holds up nothing.
	require.NoError(t, old.Rollback(ctx))
	young, err := d.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer young.Rollback(ctx)
	_, err = young.Exec(ctx, "SELECT")
	require.NoError(t, err)
	before := d.size()
	d.drop(d.line(), nil)
	require.Less(t, d.size(), before)
	now, _ := flushed()
	require.Less(t, now, n)
}

// terminate ends the session that writes the log.
func terminate(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	ctx := context.Background()
	var pid int
	require.NoError(t, pool.QueryRow(ctx, `SELECT pid FROM pg_locks WHERE locktype = 'advisory'
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1`).Scan(&pid))
	_, err := pool.Exec(ctx, "SELECT pg_terminate_backend($1)", pid)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		var there bool
		err := pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", pid).Scan(&there)
		return err == nil && !there
	}, time.Minute, time.Millisecond)
}

// TestAFlushDoesNotWaitForWhoReadsTheLog, such as pg_dump, and neither do writers.
func TestAFlushDoesNotWaitForWhoReadsTheLog(t *testing.T) {
	pg := pgtest.New(t)
	l, _ := opened(t, pg, Config{CommitTimeout: time.Minute})
	ctx := context.Background()
	d := dropper{t, l, pg.Pool(t)}
	d.put("first")
	d.drop(d.line(), nil)
	dump, err := d.pool.Begin(ctx)
	require.NoError(t, err)
	defer dump.Rollback(ctx)
	_, err = dump.Exec(ctx, "LOCK TABLE _promkeep.log, _promkeep.log_other IN ACCESS SHARE MODE")
	require.NoError(t, err)
	for round := range 4 {
		kept := fmt.Sprint("after line ", round)
		d.put("a", "b")
		line := d.line()
		d.put(kept)
		d.drop(line, nil)
		require.Equal(t, []string{kept}, d.counting(d.pool))
	}
	require.NoError(t, dump.Rollback(ctx))
	for range 3 {
		d.put("c")
		d.drop(d.line(), nil)
	}
	for _, of := range d.rows() {
		require.Subset(t, []string{"c"}, of, "both have been emptied")
	}
	require.Empty(t, d.counting(d.pool))
}
