package importer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// stopped runs an import that is stopped when it has committed about the number of samples, and returns how many it had.
func stopped(t *testing.T, pg *pgtest.DB, o Options, after int64, run func(context.Context, *Importer) error) int64 {
	t.Helper()
	to, err := storage.OpenImport(context.Background(), testConfig(t, pg), storage.ImportOptions{BatchSamples: 1500})
	require.NoError(t, err)
	defer to.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(time.Millisecond):
				if to.Stats.Samples.Load() >= after {
					cancel()
				}
			}
		}
	}()
	err = run(ctx, New(to, o))
	close(ended)
	if err != nil {
		require.True(t, errors.Is(err, context.Canceled), "%v", err)
	}
	return to.Stats.Samples.Load()
}

// TestBlocksGoOn stops an import several times, in the middle of days: each goes on where the one before was, and in the end all is
// there.
func TestBlocksGoOn(t *testing.T) {
	pg := pgtest.New(t)
	dir := history(t)
	want := raw(t, openTSDB(t, dir), -always, always, labels.EmptyLabels())
	all := int64(count(want))
	var taken int64
	blocks := func(ctx context.Context, im *Importer) error { return im.Blocks(ctx, dir) }
	for range 3 {
		n := stopped(t, pg, options(), all/5, blocks)
		require.Less(t, n, all)
		taken += n
	}
	stats := runImport(t, pg, options(), false, func(im *Importer) error { return blocks(context.Background(), im) })
	t.Logf("%d samples: %d by the imports that were stopped, %d by the last", all, taken, stats.Samples.Load())
	require.Equal(t, all, taken+stats.Samples.Load(), "nothing is imported twice")
	same(t, want, raw(t, serve(t, pg), -always, always, labels.EmptyLabels()))
}

// TestBlocksWhileTheDatabaseRestarts: an import goes on when the database was away in the middle.
func TestBlocksWhileTheDatabaseRestarts(t *testing.T) {
	server := pgtest.NewServer(t)
	pg := server.NewDB(t)
	dir := history(t)
	want := raw(t, openTSDB(t, dir), -always, always, labels.EmptyLabels())
	to, err := storage.OpenImport(context.Background(), testConfig(t, pg), storage.ImportOptions{BatchSamples: 1500})
	require.NoError(t, err)
	defer to.Close()
	done := make(chan error, 1)
	go func() { done <- New(to, options()).Blocks(context.Background(), dir) }()
	for range 2 {
		before := to.Stats.Samples.Load()
		require.Eventually(t, func() bool { return to.Stats.Samples.Load() > before+10_000 }, time.Minute, time.Millisecond)
		server.Restart(t)
	}
	require.NoError(t, <-done)
	same(t, want, raw(t, serve(t, pg), -always, always, labels.EmptyLabels()))
}
