package samplelog

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

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

func (d dropper) line() (line Line) {
	d.t.Helper()
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
		d.l.Dropped()
	}
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

// TestLaw8TheLogIsDroppedByTurns: what is flushed goes at once, what comes after the line stays, and the tables do not grow however long
// this goes on, with nothing that vacuums them and although an old snapshot is held all the time.
func TestLaw8TheLogIsDroppedByTurns(t *testing.T) {
	pg := pgtest.New(t)
	l, _ := opened(t, pg, Config{})
	ctx := context.Background()
	d := dropper{t, l, pg.Pool(t)}
	old, err := d.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer old.Rollback(ctx)
	_, err = old.Exec(ctx, "SELECT count(*) FROM _promkeep.leader")
	require.NoError(t, err)
	block := make([]byte, MaxBlock)
	for i := range block {
		block[i] = byte('a' + i%26)
	}
	const rows = 50
	var most int64
	for round := range 12 {
		for range rows - 1 {
			d.put(string(block))
		}
		line := d.line()
		kept := fmt.Sprintf("after line %d", round)
		d.put(kept) // while the flush is under way
		d.drop(line, nil)
		var left []string
		for _, of := range d.rows() {
			left = append(left, of...)
		}
		require.Equal(t, []string{kept}, left)
		var size int64
		require.NoError(t, d.pool.QueryRow(ctx, "SELECT pg_table_size('_promkeep.log') + pg_table_size('_promkeep.log_other')").Scan(&size))
		if round == 0 {
			most = size // the first is deleted: which table was empty was not known
			continue
		}
		require.LessOrEqual(t, size, most+64<<10, "round %d", round)
	}
	require.Less(t, most, int64(2*rows*8192))
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
	require.Equal(t, [2][]string{{"a", "b"}, {"c", "d"}}, d.rows(), "what comes after a line goes to the other table")
	d.drop(line, errors.New("the flush fails"))
	require.Equal(t, [2][]string{{"a", "b"}, {"c", "d"}}, d.rows())
	line = d.line()
	d.put("e")
	require.Equal(t, [2][]string{{"a", "b"}, {"c", "d", "e"}}, d.rows(), "the other table has not been emptied")
	d.drop(line, nil)
	require.Equal(t, [2][]string{{}, {"e"}}, d.rows())
	line = d.line()
	d.put("f")
	require.Equal(t, [2][]string{{"f"}, {"e"}}, d.rows())
	// The line is dropped only after the writer has lost its connection and gone on with another.
	terminate(t, d.pool)
	require.Eventually(t, func() bool { return l.Append(&Item{Blocks: [][]byte{[]byte("g")}}) == nil }, time.Minute, time.Millisecond)
	require.Equal(t, [2][]string{{"f", "g"}, {"e"}}, d.rows())
	d.drop(line, nil)
	require.Equal(t, [2][]string{{"f", "g"}, {}}, d.rows())
	line = d.line()
	d.put("h")
	d.drop(line, nil)
	require.Equal(t, [2][]string{{}, {"h"}}, d.rows())
	d.line()
	d.put("i")
	require.Equal(t, [2][]string{{"i"}, {"h"}}, d.rows())
	require.Equal(t, []string{"h", "i"}, d.replayed(), "in order, from both")
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
		all := d.rows()
		require.Equal(t, []string{kept}, append(all[0], all[1]...))
	}
	require.NoError(t, dump.Rollback(ctx))
	for range 2 {
		d.put("c")
		d.drop(d.line(), nil)
	}
	var size int64
	require.NoError(t, d.pool.QueryRow(ctx, "SELECT pg_relation_size('_promkeep.log') + pg_relation_size('_promkeep.log_other')").Scan(&size))
	require.Zero(t, size, "both have been emptied")
}
