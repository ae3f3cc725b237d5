package pgtest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promkeep/promkeep/storage/pgtest"
)

func TestNewServerIsDurableAndSurvivesFaults(t *testing.T) {
	t.Parallel()
	srv := pgtest.NewServer(t, pgtest.WithSettings(map[string]string{"work_mem": "7MB"}))
	db := srv.NewDB(t)
	ctx := t.Context()
	query := func(sql string) (v string) {
		conn, err := pgx.Connect(ctx, db.URI)
		require.NoError(t, err)
		defer conn.Close(ctx)
		require.NoError(t, conn.QueryRow(ctx, sql).Scan(&v))
		return v
	}
	require.Equal(t, "on", query("SHOW fsync"))
	require.Equal(t, "on", query("SHOW full_page_writes"))
	require.Equal(t, "on", query("SHOW synchronous_commit"))
	require.Equal(t, "7MB", query("SHOW work_mem"))

	pool := db.Pool(t)
	_, err := pool.Exec(ctx, "CREATE TABLE kept AS SELECT 5 AS n")
	require.NoError(t, err)

	srv.Kill9Postmaster(t)
	srv.WaitReady(t)
	require.Equal(t, "5", query("SELECT n::text FROM kept"))
	require.EqualValues(t, 1, srv.Restarts())

	conn, err := pgx.Connect(ctx, db.URI)
	require.NoError(t, err)
	srv.Kill9Backends(t, db)
	_, err = conn.Exec(ctx, "SELECT 1")
	require.Error(t, err)
	require.True(t, conn.IsClosed())
	srv.WaitReady(t)

	srv.Stop(t)
	_, err = pgx.Connect(ctx, db.URI)
	require.Error(t, err)
	srv.Start(t)
	require.Equal(t, "5", query("SELECT n::text FROM kept"))
	srv.Restart(t)
	require.Equal(t, "5", query("SELECT n::text FROM kept"))
}

func TestDatabasesAreSeparateAndDropped(t *testing.T) {
	var names []string
	var server *pgtest.Server
	t.Run("use", func(t *testing.T) {
		a, b := pgtest.New(t), pgtest.New(t)
		require.NotEqual(t, a.Name, b.Name)
		require.False(t, a.HasTimescaleDB)
		_, err := a.Pool(t).Exec(t.Context(), "CREATE TABLE mine ()")
		require.NoError(t, err)
		_, err = b.Pool(t).Exec(t.Context(), "TABLE mine")
		require.Error(t, err)
		_, err = b.SuperPool(t).Exec(t.Context(), "SELECT pg_reload_conf()")
		require.NoError(t, err)
		names, server = []string{a.Name, b.Name}, a.Server

		// A session left open does not keep the database from being dropped.
		conn, err := pgx.Connect(t.Context(), a.URI)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	})
	other := pgtest.New(t)
	require.Same(t, server, other.Server, "one server for all")
	var left int
	require.NoError(t, other.SuperPool(t).QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname = ANY($1)", names).Scan(&left))
	require.Zero(t, left)
}

func TestNewWithTimescaleDB(t *testing.T) {
	full, apache := pgtest.New(t, pgtest.WithTimescaleDB), pgtest.New(t, pgtest.WithApacheTimescaleDB)
	require.True(t, full.HasTimescaleDB)
	require.False(t, full.ApacheOnly)
	require.True(t, apache.HasTimescaleDB)
	require.True(t, apache.ApacheOnly)
	for db, want := range map[*pgtest.DB]string{full: "timescale", apache: "apache"} {
		var got string
		require.NoError(t, db.Pool(t).QueryRow(t.Context(), "SHOW timescaledb.license").Scan(&got))
		require.Equal(t, want, got)
	}
}

func TestServersDoNotLookLikeLeaks(t *testing.T) {
	pgtest.New(t)
	require.NoError(t, goleak.Find(pgtest.IgnoreServers()...))
}

func BenchmarkNew(b *testing.B) {
	for _, opts := range [][]pgtest.Option{nil, {pgtest.WithTimescaleDB}} {
		b.Run(fmt.Sprintf("options=%d", len(opts)), func(b *testing.B) {
			for b.Loop() {
				pgtest.New(b, opts...)
			}
		})
	}
}

func BenchmarkNewServer(b *testing.B) {
	for b.Loop() {
		pgtest.NewServer(b)
	}
}
