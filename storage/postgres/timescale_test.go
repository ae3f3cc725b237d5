package postgres

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const extensionVersion = "SELECT coalesce((SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'), '')"

func TestTimescaleDBIsPartOfTheDatabase(t *testing.T) {
	t.Parallel()
	inst, err := Find("")
	require.NoError(t, err)
	dir := dataDir(t)
	if !inst.HasTimescaleDB {
		_, err := Start(testContext(t), Options{DataDir: dir, TimescaleDB: TimescaleOn})
		require.ErrorContains(t, err, "does not have it")
		srv := start(t, Options{DataDir: dir})
		require.False(t, srv.HasTimescaleDB())
		require.Empty(t, query1[string](t, srv.URI(), extensionVersion))
		t.Skip("the rest needs TimescaleDB, which is not in this server's library directory")
	}

	srv := start(t, Options{DataDir: dir, TimescaleDB: TimescaleOff})
	require.False(t, srv.HasTimescaleDB())
	require.Empty(t, query1[string](t, srv.URI(), extensionVersion))
	require.Empty(t, query1[string](t, srv.SuperURI(), "SHOW shared_preload_libraries"))
	stop(t, srv)

	srv = start(t, Options{DataDir: dir})
	require.True(t, srv.HasTimescaleDB())
	version := query1[string](t, srv.URI(), extensionVersion)
	require.NotEmpty(t, version)
	require.Equal(t, "off", query1[string](t, srv.URI(), "SHOW timescaledb.telemetry_level"))
	exec1(t, srv.URI(), "CREATE TABLE t (at timestamptz NOT NULL, v float8)")
	exec1(t, srv.URI(), "SELECT create_hypertable('t', 'at')")
	exec1(t, srv.URI(), "INSERT INTO t VALUES (now(), 1)")
	stop(t, srv)

	// It cannot be left out any more.
	_, err = Start(testContext(t), Options{DataDir: dir, TimescaleDB: TimescaleOff})
	require.ErrorContains(t, err, "uses TimescaleDB "+version)

	srv = start(t, Options{DataDir: dir, TimescaleDB: TimescaleOn})
	require.Equal(t, 1, query1[int](t, srv.URI(), "SELECT count(*) FROM t"))
	stop(t, srv)
	requireCleanShutdown(t, inst, dir)
}

// The library of the old version is gone after an upgrade of the package, so nothing but the update works.
func TestTimescaleDBIsUpdatedWithItsPackage(t *testing.T) {
	t.Parallel()
	inst, err := Find("")
	require.NoError(t, err)
	if !inst.HasTimescaleDB {
		t.Skip("TimescaleDB is not in this server's library directory")
	}
	dir := dataDir(t)
	srv := start(t, Options{DataDir: dir, TimescaleDB: TimescaleOn})
	version := query1[string](t, srv.URI(), extensionVersion)
	// The newest version before it that there is an update script for; an older one's catalogue would be another.
	previous := query1[string](t, srv.SuperURI(), `SELECT coalesce(max(string_to_array(source, '.')::int[]), '{}')::text
		FROM pg_extension_update_paths('timescaledb') WHERE target = '`+version+`' AND path = source || '--' || target`)
	previous = strings.ReplaceAll(strings.Trim(previous, "{}"), ",", ".")
	if previous == "" {
		t.Skip("this TimescaleDB came without scripts to update from older versions")
	}
	exec1(t, srv.SuperURI(), "UPDATE _timescaledb_catalog.metadata SET value = '"+previous+"' WHERE key = 'timescaledb_version'")
	exec1(t, srv.SuperURI()+"&timescaledb.disable_load=on", "UPDATE pg_extension SET extversion = '"+previous+"' WHERE extname = 'timescaledb'")
	conn := connect(t, srv.URI())
	_, err = conn.Exec(testContext(t), "SELECT 1 FROM pg_class")
	require.ErrorContains(t, err, previous, "without the update the database cannot be used")
	stop(t, srv)

	logs := &recorder{}
	srv = start(t, Options{DataDir: dir, Logger: logs.logger()})
	require.Equal(t, version, query1[string](t, srv.URI(), extensionVersion))
	logs.require(t, "level=INFO", "Bringing TimescaleDB", "from="+previous, "to="+version)
}
