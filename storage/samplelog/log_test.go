package samplelog

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/pgtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(pgtest.M{M: m}, pgtest.IgnoreServers()...)
}

// commits are the bytes of the commits of a log, in order. They may be looked at when an Append has returned.
type commits []int

// opened is a log in a database that has promkeep's schema.
func opened(t testing.TB, pg *pgtest.DB, cfg Config) (*Log, *commits) {
	t.Helper()
	ctx := context.Background()
	connect := func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, pg.URI) }
	conn, err := connect(ctx)
	require.NoError(t, err)
	defer conn.Close(ctx)
	logger := slog.New(slog.DiscardHandler)
	_, err = schema.Migrate(ctx, conn, schema.TimescaleDBOff, logger)
	require.NoError(t, err)
	var all commits
	cfg.Connect, cfg.Logger, cfg.CheckInterval = connect, logger, time.Hour
	cfg.Replayed = func([]byte) error { return nil }
	cfg.ObserveCommit = func(_, bytes int, _ time.Duration) { all = append(all, bytes) }
	l, err := Open(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { pgtest.Close(t, "the log", l.Close) })
	return l, &all
}

// heldUp lets no commit of the log come through until release is called.
func heldUp(t testing.TB, pg *pgtest.DB) (release func(), waiting func() bool) {
	t.Helper()
	ctx := context.Background()
	pool := pg.Pool(t)
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	release = sync.OnceFunc(func() { tx.Rollback(ctx) })
	t.Cleanup(release)
	_, err = tx.Exec(ctx, "LOCK TABLE _promkeep.log, _promkeep.log_other IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	return release, func() bool {
		var n int
		err := pool.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IN ('_promkeep.log'::regclass, '_promkeep.log_other'::regclass)").Scan(&n)
		return err == nil && n > 0
	}
}

// TestALoneWriterCommitsAtOnce: nothing is waited for when nothing else is there to be committed, so each request is a commit.
func TestALoneWriterCommitsAtOnce(t *testing.T) {
	l, all := opened(t, pgtest.New(t), Config{})
	const requests = 50
	var want commits
	for i := range requests {
		applied := false
		require.NoError(t, l.Append(&Item{Blocks: [][]byte{make([]byte, 100+i)}, Apply: func() { applied = true }}))
		require.True(t, applied)
		want = append(want, 100+i)
	}
	require.Equal(t, want, *all)
}

// TestWhatComesDuringACommitSharesTheNext, up to the bound of a commit, and is applied in the order in which it came.
func TestWhatComesDuringACommitSharesTheNext(t *testing.T) {
	pg := pgtest.New(t)
	l, all := opened(t, pg, Config{MaxGroupBytes: 25 * 10_000, MaxQueueBytes: 2_100_000})
	release, waiting := heldUp(t, pg)
	const requests, size = 200, 10_000 // two blocks
	var order []int                    // of the applier alone, until all requests are answered
	var group sync.WaitGroup
	errs := make([]error, requests+2)
	send := func(i int, blocks ...[]byte) {
		group.Go(func() {
			errs[i] = l.Append(&Item{Blocks: blocks, Apply: func() { order = append(order, i) }})
		})
	}
	block := make([]byte, size/2)
	send(0, block, block)
	require.Eventually(t, waiting, time.Minute, time.Millisecond, "the first is not under way")
	require.Zero(t, l.QueuedBytes())
	for i := 1; i <= requests; i++ {
		send(i, block, block)
		require.Eventually(t, func() bool { return l.QueuedBytes() == i*size }, time.Minute, 50*time.Microsecond)
	}
	// What would be more than may wait is refused at once.
	require.ErrorIs(t, l.Append(&Item{Blocks: [][]byte{make([]byte, 200_000)}}), ErrOverloaded)
	release()
	group.Wait()
	want := commits{size}
	for range requests / 25 { // as many as are below the bound
		want = append(want, 25*size)
	}
	require.Equal(t, want, *all)
	for i, err := range errs[:requests+1] {
		require.NoError(t, err)
		require.Equal(t, i, order[i])
	}
	// One that is larger than the bound is a commit of its own.
	require.NoError(t, l.Append(&Item{Blocks: [][]byte{bytes.Repeat([]byte{1}, 300<<10)}}))
	require.Equal(t, append(want, 300<<10), *all)
	var rows, most int
	require.NoError(t, pg.Pool(t).QueryRow(context.Background(), "SELECT count(*), max(length(payload)) FILTER (WHERE length(payload) < 300 << 10) FROM _promkeep.log").
		Scan(&rows, &most))
	require.LessOrEqual(t, most, MaxBlock, "rows stay below a page")
	require.Equal(t, 2*(requests+1)+1, rows, "blocks that do not fit together are rows of their own")
}

// TestRefusedCommitsFailTheirOwnGroup: a commit that PostgreSQL refuses fails who shared it, not those that come after.
func TestRefusedCommitsFailTheirOwnGroup(t *testing.T) {
	pg := pgtest.New(t)
	l, _ := opened(t, pg, Config{})
	pool := pg.Pool(t)
	_, err := pool.Exec(context.Background(), "ALTER TABLE _promkeep.log ADD CONSTRAINT none CHECK (length(payload) < 50)")
	require.NoError(t, err)
	for i := range 3 {
		err := l.Append(&Item{Blocks: [][]byte{make([]byte, 60)}, Apply: func() { panic("applied although it was not committed") }})
		require.ErrorIs(t, err, ErrUnavailable, fmt.Sprint(i))
		require.NoError(t, l.Append(&Item{Blocks: [][]byte{make([]byte, 40)}}))
	}
	var gaps int
	require.NoError(t, pool.QueryRow(context.Background(), `SELECT count(*) FROM (SELECT seq - lag(seq, 1, 0::int8) OVER (PARTITION BY segment ORDER BY seq) AS step
		FROM _promkeep.log) AS steps WHERE step <> 1`).Scan(&gaps))
	require.Zero(t, gaps, "a follower would wait for ever")
}
