package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTunedSettingsFollowTheMachine(t *testing.T) {
	all := func(string, string) bool { return true }
	none := func(string, string) bool { return false }

	for _, c := range []struct {
		memory                      uint64
		sharedBuffers, cache, mwork string
	}{
		{256 * mib, "128MB", "256MB", "64MB"},
		{4 * gib, "512MB", "2048MB", "128MB"},
		{256 * gib, "2048MB", "65536MB", "512MB"},
	} {
		s := tunedSettings(machine{memory: c.memory}, 100, false, all)
		require.Equal(t, c.sharedBuffers, s["shared_buffers"])
		require.Equal(t, c.cache, s["effective_cache_size"])
		require.Equal(t, c.mwork, s["maintenance_work_mem"])
	}

	s := tunedSettings(machine{memory: gib}, 100, false, all)
	require.Equal(t, "lz4", s["wal_compression"])
	require.NotContains(t, s, "dynamic_shared_memory_type")
	require.NotContains(t, s, "timescaledb.telemetry_level")

	s = tunedSettings(machine{memory: gib, devShm: 64 * mib}, 100, true, none)
	require.Equal(t, "sysv", s["dynamic_shared_memory_type"])
	require.NotContains(t, s, "wal_compression")
	require.NotContains(t, s, "effective_io_concurrency")
	require.Equal(t, "timescaledb", s["shared_preload_libraries"])
	require.Equal(t, "off", s["timescaledb.telemetry_level"])

	s = tunedSettings(machine{memory: gib, devShm: 8 * gib}, 100, true, func(setting, value string) bool { return value == "pglz" })
	require.NotContains(t, s, "dynamic_shared_memory_type")
	require.Equal(t, "pglz", s["wal_compression"])
}

func TestMachineIsMeasured(t *testing.T) {
	m := thisMachine()
	require.Greater(t, m.memory, uint64(64*mib))
	require.Less(t, m.memory, uint64(1<<50), "a control group without a limit must not count as one")
}

func TestRenderConfigQuotes(t *testing.T) {
	got, err := renderConfig(map[string]string{"b": `it's a \ test`, "a": ""})
	require.NoError(t, err)
	require.Contains(t, got, "a = ''\nb = 'it''s a \\\\ test'\n")
	_, err = renderConfig(map[string]string{"a": "1'\nfsync = off"})
	require.ErrorContains(t, err, "line break")
}
