package postgres

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFindUsesTheInstalledServer(t *testing.T) {
	inst, err := Find("")
	require.NoError(t, err)
	require.GreaterOrEqual(t, inst.Major, MinMajor)
	require.FileExists(t, inst.program("postgres"))
	require.DirExists(t, inst.LibDir)
	require.DirExists(t, inst.ShareDir)

	same, err := Find(inst.BinDir)
	require.NoError(t, err)
	require.Equal(t, inst, same)

	all := FindAll()
	require.Equal(t, inst, all[0])
	for i := 1; i < len(all); i++ {
		require.GreaterOrEqual(t, all[i-1].Major, all[i].Major, "newest first")
		require.NotEqual(t, all[i-1].BinDir, all[i].BinDir, "each once")
	}
}

func TestFindSearchesPATH(t *testing.T) {
	inst, err := Find("")
	require.NoError(t, err)
	found, err := search{path: "/nowhere:" + inst.BinDir, glob: "/nowhere/*"}.newest()
	require.NoError(t, err)
	require.Equal(t, inst, found)
}

func TestFindSaysWhereItLookedAndHowToInstall(t *testing.T) {
	empty := t.TempDir()
	_, err := search{pgConfig: filepath.Join(empty, "pg_config"), glob: filepath.Join(empty, "*", "bin"), path: empty}.newest()
	require.ErrorIs(t, err, ErrNoInstallation)
	for _, want := range []string{"pg_config", filepath.Join(empty, "*", "bin"), "PATH", "apt-get install postgresql", "--postgres.bin-dir", "--db.uri"} {
		require.ErrorContains(t, err, want)
	}

	_, err = Find(empty)
	require.ErrorIs(t, err, ErrNoInstallation)
	require.ErrorContains(t, err, empty)
}

// An old server cannot be had where the tests run; a program that says it is one is all that is looked at.
func TestFindRefusesOldServers(t *testing.T) {
	old := filepath.Join(t.TempDir(), "13", "bin")
	require.NoError(t, os.MkdirAll(old, 0o755))
	for _, program := range []string{"postgres", "initdb"} {
		require.NoError(t, os.WriteFile(filepath.Join(old, program), []byte("#!/bin/sh\necho 'postgres (PostgreSQL) 13.14 (Debian 13.14-1)'\n"), 0o755))
	}
	_, err := search{glob: old}.newest()
	require.ErrorIs(t, err, ErrNoInstallation)
	require.ErrorContains(t, err, "13.14")
	require.ErrorContains(t, err, "too old")

	_, err = Find(old)
	require.ErrorIs(t, err, ErrNoInstallation)
	require.ErrorContains(t, err, "needs 15 or later")

	// It does not hide a usable one.
	inst, err := Find("")
	require.NoError(t, err)
	found, err := search{glob: old, path: inst.BinDir}.newest()
	require.NoError(t, err)
	require.Equal(t, inst, found)
}
